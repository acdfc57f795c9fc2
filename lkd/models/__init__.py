"""Models registered with timm: after `import lkd`, `timm.create_model` accepts their names."""

from lkd.models import mini as mini
from lkd.models import vit as vit
from lkd.models.ensemble import Ensemble
from lkd.models.folding import fold_batchnorm, to_timm_convnext
from lkd.models.normalization import Normalized
from lkd.models.weights import load_checkpoint, load_model, save_model

__all__ = [
    "Ensemble",
    "Normalized",
    "fold_batchnorm",
    "load_checkpoint",
    "load_model",
    "save_model",
    "to_timm_convnext",
]
