"""Scikit-learn's handwritten digits, enlarged to 32x32: a data set that needs no download."""

import torch
from torch.nn.functional import interpolate

from lkd.data.images import Images, Split, channel_statistics, hold_out

SIZE = 32
HELD_OUT = 250
SEED = 0


def digits() -> Images:
    """Scikit-learn's 1,797 digits as uint8 images (N, 1, 32, 32), split into 1,297 / 250 / 250, stratified by class.

    The 8x8 originals (values 0 to 16) are enlarged bilinearly, then scaled to 0..255. In this order the enlargement is
    exact in float32, and every machine gets the same pixels.

    Returns:
        Images with classes "0" to "9" and the statistics of the training split.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    1998 (its test part), as bundled with scikit-learn.

    Example:
        >>> from lkd.data.digits import digits
        >>> data = digits()
        >>> len(data.train), len(data.val), len(data.test)
        (1297, 250, 250)
    """
    from sklearn.datasets import load_digits

    bundled = load_digits()
    originals = torch.as_tensor(bundled.images, dtype=torch.float32)[:, None]
    enlarged = interpolate(originals, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    pixels = (enlarged * 255 / 16).round().to(torch.uint8)
    rest, test = hold_out(Split(pixels, torch.as_tensor(bundled.target, dtype=torch.int64)), HELD_OUT, SEED)
    train, val = hold_out(rest, HELD_OUT, SEED)
    mean, std = channel_statistics(train.images)
    return Images("digits", tuple(str(name) for name in bundled.target_names), train, val, test, mean, std)
