"""A head of a few cheap layers, for small networks."""

from torch import Tensor, nn

from coupled_embedding.networks.heads import Head, HeadOutput, scale_layers, tag_layer

HIDDEN = 96  # channels of a branch


def separable_hidden(inputs: int) -> nn.Sequential:
    """Return a branch's hidden layers: a depthwise 3×3 and a 1×1 convolution to `HIDDEN` channels, and ReLU."""
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(inputs, HIDDEN, 1), nn.ReLU(inplace=True))


class SeparableHead(Head):
    """Two branches of a depthwise 3×3 and two 1×1 convs at stride 4: K heatmaps, and K·D tags.

    The heatmap branch is that of MoveNet MultiPose.

    Args:
        width: channels of the feature.
        num_joints: K.
        tag_dim: D.
        tag_width: of these, the last, which the tag branch sees alone and the heatmap branch not at all; 0: both see
            all.
    """

    starts_small = False

    def __init__(self, width: int, num_joints: int, tag_dim: int, tag_width: int = 0) -> None:
        super().__init__()
        self.widths = (width - tag_width, tag_width or width)
        self.hms_hidden_layers = separable_hidden(self.widths[0])
        self.tms_hidden_layers = separable_hidden(self.widths[1]) if tag_dim else nn.Identity()
        self.hms_pred_layers = nn.Conv2d(HIDDEN, num_joints, 1)
        self.tms_pred_layers = tag_layer(HIDDEN, num_joints * tag_dim)
        self.scale_pred_layers = scale_layers(width, num_joints, 0)

    def forward(self, feature: Tensor) -> HeadOutput:
        """Map (B, W, h, w) to [heatmaps (B, K, h, w)] and tags (B, K·D, h, w); no scale maps."""
        for_heatmaps, for_tags = feature[:, : self.widths[0]], feature[:, -self.widths[1] :]
        heatmaps = self.hms_pred_layers(self.hms_hidden_layers(for_heatmaps))
        return [heatmaps], self.tms_pred_layers(self.tms_hidden_layers(for_tags)), []

    def heatmap_layers(self) -> list[nn.Conv2d]:
        """Return the convolution that outputs heatmaps."""
        return [self.hms_pred_layers]
