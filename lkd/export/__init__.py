"""Export of students as timm models: to a folder with a model card, or to the Hugging Face hub."""

from lkd.export.timm_model import export, push

__all__ = ["export", "push"]
