"""`python -m models.commands.il_niqe --pictures FOLDER`: the template of IL-NIQE, of open pictures."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm  # type: ignore[import-untyped]

from models import MODELS_FOLDER
from models.data.clean_pictures import CleanPicture, find_pictures, open_picture, read_picture_list, scale_to_short_side
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.no_reference.integrated import fit_template, sharp_features

_TEMPLATE = MODELS_FOLDER.parent / "vqmon/media/measures/no_reference/il_niqe_photos.npz"
# the first of the list; the others are held out
_FITTED = 56
# twice the size at which IL-NIQE measures: what the camera and its coder blurred is gone
_SHORT_SIDE = 1048


def _features_of(pictures: Sequence[CleanPicture], folder: Path) -> NDArray[np.float64]:
    """(blocks, 468) of the sharp blocks of pictures that lie in a folder. Raises DataError."""
    paths = find_pictures(pictures, folder)
    parts = []
    for picture in tqdm(pictures, unit="picture"):
        photo = open_picture(paths[picture.sha256])
        is_large = min(photo.size) > _SHORT_SIDE
        parts.append(
            sharp_features(Picture(scale_to_short_side(photo, _SHORT_SIDE) if is_large else np.asarray(photo)))
        )
    return np.concatenate(parts)


def main() -> None:
    """Write the template; the covariance is diagonal in the space of the principal components."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of the pictures of lite2.pictures.toml")
    parser.add_argument("--out", type=Path, default=_TEMPLATE, help="the .npz file, by default the one that ships")
    options = parser.parse_args()
    features = _features_of(read_picture_list(MODELS_FOLDER / "lite2.pictures.toml")[:_FITTED], options.pictures)
    template = fit_template(features)
    np.savez_compressed(
        options.out,
        feature_mean=template.feature_mean,
        vectors=template.vectors,
        mean=template.mean,
        covariance=np.diag(np.diag(template.covariance)),
    )
    print(f"{len(features)} sharp blocks, {template.mean.size} principal components: {options.out}")


if __name__ == "__main__":
    main()
