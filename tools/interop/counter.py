"""The number in each frame of the matrix's clips: ten bits as black and white blocks in one row,
their complements in the next, so that a damaged picture is told from another number."""

COUNTER_BITS = 10
# Middles of the two rows, in fractions of the height.
COUNTER_ROWS = (0.7, 0.76)


def read_counter(luma):
    """The number in a picture's brightness plane (rows of bytes), or None if it is damaged."""
    height, width = luma.shape
    value = 0
    for bit in range(COUNTER_BITS):
        x = int((bit + 0.5) * width / COUNTER_BITS)
        upper, lower = (
            float(luma[int(row * height) - 1 : int(row * height) + 1, x - 2 : x + 2].mean())
            for row in COUNTER_ROWS
        )
        if abs(upper - lower) < 60:
            return None
        value |= (upper > lower) << bit
    return value
