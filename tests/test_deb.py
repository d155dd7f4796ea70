"""The Debian package: installed, upgraded, removed and purged by dpkg itself, over an overlay of this machine."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import need

pytestmark = [pytest.mark.deb]

ROOT = Path(__file__).parents[1]
SITE_PACKAGES = Path(pytest.__file__).parents[1]
SETTINGS = "/etc/vqmon/vqmon.toml"
RECORDS_OF_THE_SYSTEM = (
    "/etc/.pwd.lock",
    *(f"/etc/{name}{end}" for name in ("passwd", "group", "shadow", "gshadow") for end in ("", "-")),
    "/var/lib/dpkg",
    "/var/log",
    "/var/cache",
)
"""What a purge leaves changed: the records of dpkg, and the user, which the package says."""


@dataclass
class Machine:
    """This machine seen through an overlay: what commands change lies in `folder`/upper."""

    folder: Path

    def run(self, command: str, *, user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a shell command in the overlay; its output and errors are one text."""
        mounts = (
            f"mount -t overlay overlay -o lowerdir=/,upperdir={self.folder}/upper,workdir={self.folder}/work "
            f"{self.folder}/merged && mount --rbind /proc {self.folder}/merged/proc && "
            f"mount --rbind /dev {self.folder}/merged/dev"
        )
        drop = f"setpriv --reuid={user} --regid={user} --init-groups" if user != "root" else ""
        inside = f'exec {drop} env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 sh -ec "$0"'
        return subprocess.run(
            [
                "unshare",
                "--mount",
                "sh",
                "-ec",
                f"{mounts}; chroot {self.folder}/merged sh -c '{inside}' \"$0\"",
                command,
            ],
            capture_output=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )

    def ok(self, command: str, *, user: str = "root") -> str:
        """The output of a command that must succeed."""
        run = self.run(command, user=user)
        assert run.returncode == 0, run.stdout
        return run.stdout

    def changed(self) -> set[str]:
        """Every file that differs from the machine's, or that the machine has and the overlay has not."""
        upper = self.folder / "upper"
        return {f"/{path.relative_to(upper)}" for path in upper.rglob("*") if not path.is_dir() or path.is_symlink()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """An overlay in which the user vqmon can read this checkout and its environment."""
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    machine = Machine(tmp_path)
    can = shutil.which("dpkg") is not None and machine.run("true").returncode == 0
    need("deb", present=can, remedy="run as root on Debian, where overlays can be mounted")
    folders = {
        folder for path in (ROOT / "vqmon", SITE_PACKAGES / "av", Path(sys.base_prefix)) for folder in path.parents
    }
    machine.ok("chmod o+rx " + " ".join(f"'{folder}'" for folder in folders))
    return machine


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package around an environment that borrows the libraries of this one."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    need("deb", present=Path(f"/usr/bin/python{python}").exists(), remedy=f"install Debian's python{python}")
    venv = tmp_path / "venv"
    subprocess.run([f"/usr/bin/python{python}", "-m", "venv", "--without-pip", venv], check=True)
    borrowed = venv / "lib" / f"python{python}" / "site-packages" / "borrowed.pth"
    borrowed.write_text(f"{ROOT}\n{SITE_PACKAGES}\n")
    script = venv / "bin" / "vqmon"
    script.write_text("#!/opt/vqmon/bin/python3\nfrom vqmon.cli.main import main\n\nmain()\n")
    script.chmod(0o755)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "DEB_VENV": str(venv),
        "DEB_OUT": str(tmp_path / "dist"),
        "DEB_PYTHON": f"/usr/bin/python{python}",
        "DEB_MAINTAINER": "A. Tester <tester@debian.org>",
    }
    subprocess.run([ROOT / "packaging" / "deb" / "build"], env=environment, capture_output=True, check=True)
    (package,) = (tmp_path / "dist").glob("vqmon_*.deb")
    return package


def next_version(package: Path) -> Path:
    """A later version of the package, whose own settings file has changed too."""
    folder = package.parent / "next"
    subprocess.run(["dpkg-deb", "-R", package, folder], check=True)
    control = folder / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 9:"))
    settings = folder / SETTINGS[1:]
    settings.write_text(settings.read_text() + "\n[log]\nlevel = 'warning'\n")
    target = package.parent / "next.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", folder, target], check=True, capture_output=True)
    return target


def test_it_installs_checks_upgrades_and_purges(machine: Machine, package: Path) -> None:
    """Settings that were changed survive an upgrade and a removal, the history survives all but a purge."""
    machine.ok(f"dpkg -i {package}")
    owners = machine.ok(f"stat -c '%U:%G %a' /etc/vqmon /var/lib/vqmon {SETTINGS}").split("\n")
    assert owners[:3] == ["root:vqmon 750", "vqmon:vqmon 755", "root:root 644"]
    checked = machine.ok("cd /var/lib/vqmon; umask 077; touch vqmon.db.reviews; vqmon check --offline", user="vqmon")
    assert "/var/lib/vqmon/vqmon.db does not exist yet" in checked
    machine.ok(f"systemctl enable vqmon; echo '[web]\nport = 8090' >> {SETTINGS}")

    machine.ok(f"dpkg --force-confdef --force-confold -i {next_version(package)}")
    assert "port = 8090" in machine.ok(f"cat {SETTINGS}")
    assert "level = 'warning'" in machine.ok(f"cat {SETTINGS}.dpkg-dist")

    machine.ok("dpkg --remove vqmon")
    left = {path for path in machine.changed() if not path.startswith(RECORDS_OF_THE_SYSTEM)}
    assert left == {SETTINGS, f"{SETTINGS}.dpkg-dist", "/var/lib/vqmon/vqmon.db.reviews"}
    said = machine.ok("dpkg --purge vqmon")
    assert "history in /var/lib/vqmon is deleted; the user vqmon stays" in said
    assert not {path for path in machine.changed() if not path.startswith(RECORDS_OF_THE_SYSTEM)}
    assert not (machine.folder / "upper/etc/vqmon").exists()


def test_lintian_finds_nothing(package: Path) -> None:
    """Not even a warning, but for what the overrides explain."""
    need("lintian", present=shutil.which("lintian") is not None, remedy="install Debian's `lintian`")
    command = ["lintian", "--allow-root", "--fail-on", "error,warning"]
    run = subprocess.run([*command, package], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
