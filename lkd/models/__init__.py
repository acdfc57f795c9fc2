"""Models registered with timm: `import lkd` makes their names known to `timm.create_model`."""

from lkd.models import mini as mini
