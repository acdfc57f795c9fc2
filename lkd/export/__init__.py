"""Students as plain timm models: in a folder with a model card, or on the Hugging Face hub."""

from lkd.export.timm_model import export, push

__all__ = ["export", "push"]
