"""Reading of bit fields and Exp-Golomb codes from the headers of a bitstream."""


class BitReader:
    """Reads big-endian bit fields one after the other."""

    def __init__(self, content: bytes) -> None:
        self._value = int.from_bytes(content, "big")
        self._remaining_bits = len(content) * 8

    def read(self, count: int) -> int:
        """The next `count` bits as an unsigned number; raises ValueError when fewer remain."""
        self._remaining_bits -= count
        if self._remaining_bits < 0:
            raise ValueError("the header is truncated")
        return self._value >> self._remaining_bits & (1 << count) - 1

    def read_exp_golomb(self) -> int:
        """An unsigned Exp-Golomb code, ue(v) in ITU-T H.264 9.1; raises ValueError when it is malformed."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("not an Exp-Golomb code")
        return (1 << zeros) - 1 + self.read(zeros)

    def read_signed_exp_golomb(self) -> int:
        """A signed Exp-Golomb code, se(v) in ITU-T H.264 9.1.1."""
        code = self.read_exp_golomb()
        return (code + 1) // 2 if code & 1 else -(code // 2)
