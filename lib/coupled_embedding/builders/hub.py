"""Writing models in the layout of the Hugging Face Hub, into a folder or to the Hub; imports huggingface_hub.

They are read by `networks.hub`, which needs no huggingface_hub for a folder.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelHubMixin

from coupled_embedding.builders.inference import LoadedModel, model_content, save_model
from coupled_embedding.networks.hub import CARD, CONFIG, LICENSE, WEIGHTS, hub_config
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.errors import UserError

_CARD = """---
{{ card_data }}
---

# {{ name }}

Multi-person pose estimation, bottom-up: heatmaps of {{ joints | length }} joints, and tags that say which of them are
one person's.

```bash
pip install 'coupled-embedding[hub]'
```

```python
from coupled_embedding.predictor import Predictor

predictor = Predictor.from_pretrained("{{ repo_id or 'this folder, or OWNER/NAME' }}")
poses = predictor("image.jpg")  # best first
print(poses.xy.shape, poses.scores)  # (N, {{ joints | length }}, 2), NaN where a joint was not found; (N,)
```

| | |
| --- | --- |
| parameters | {{ parameters }} |
| input | short side {{ size }} pixels{{ ", mean with the flipped image" if flip }} |
| joints | {{ joints | join(", ") }} |
{%- for metric, value in metrics.items() %}
| {{ metric }} | {{ value }} |
{%- endfor %}
{%- if license_text %}

## License

{{ license_text }}
{%- endif %}
"""


# Not PyTorchModelHubMixin: it rebuilds a module from the plain arguments of its constructor, loads weights that do not
# fit (strict=False) and falls back to a pickle. A model here is rebuilt from a config that our reader checks; the mixin
# gives the card and the upload.
class HubModel(
    ModelHubMixin,
    library_name="coupled-embedding",
    pipeline_tag="keypoint-detection",
    tags=["pose-estimation", "human-pose", "bottom-up", "associative-embedding"],
    model_card_template=_CARD,
):
    """A model that is written to a folder or to the Hub.

    Args:
        write: writes all files but the card into a folder; the mixin would try to make JSON of a model itself.
        about: what the card says.
    """

    def __init__(self, write: Callable[[Path], None], about: dict[str, Any]) -> None:
        self.write, self.about = write, about

    def _save_pretrained(self, save_directory: Path) -> None:
        self.write(save_directory)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return README.md: what the model is, and how it is used."""
        return super().generate_model_card(*args, **self.about, **kwargs)


def _hub_model(model: LoadedModel, half: bool, repo_id: str = "") -> HubModel:
    about = {
        "name": model.cfg.NAME,
        "joints": model.schema.joints,
        "parameters": f"{sum(parameter.numel() for parameter in model.network.parameters()):,}",
        "size": model.cfg.DATASET.INPUT_SIZE,
        "flip": model.cfg.TEST.FLIP,
        "metrics": model.metrics,
        "license_text": model.license.strip(),
        "repo_id": repo_id,
    }
    return HubModel(partial(_write, model, half), about)


def _write(model: LoadedModel, half: bool, folder: Path) -> None:
    save_model(folder / WEIGHTS, model, half)
    atomic_write(folder / CONFIG, hub_config(model_content(model)), "the model's config")
    if model.license:
        atomic_write(folder / LICENSE, model.license, "the model's license")


def save_pretrained(model: LoadedModel, folder: Path, half: bool) -> Path:
    """Write a model's folder: see `Predictor.save_pretrained`."""
    names = (WEIGHTS, CONFIG, CARD, LICENSE)
    if taken := next((folder / name for name in names if (folder / name).exists()), None):
        raise UserError(f"{taken} exists; delete it first, or choose another folder")
    try:
        _hub_model(model, half).save_pretrained(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot write this folder ({error.strerror})") from error
    return folder


def push_to_hub(model: LoadedModel, repo_id: str, half: bool, **options: Any) -> str:
    """Upload a model: see `Predictor.push_to_hub`."""
    try:
        return _hub_model(model, half, repo_id).push_to_hub(repo_id, **options)
    except UserError:
        raise
    except Exception as error:  # HTTP libraries' own among them
        raise UserError(
            f"{repo_id}: cannot upload to the Hugging Face Hub ({type(error).__name__}: {error!s:.400}); check the "
            "name and the connection, and log in: hf auth login"
        ) from error
