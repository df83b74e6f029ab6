"""Bottom-up multi-person pose estimation with coupled embeddings (CE, ECCV 2022).

Where to start:

- `coupled_embedding.predictor.Predictor`: poses of images, folders, videos and cameras.
- `coupled_embedding.poses.Poses`: what it returns: arrays, single people, JSON, COCO results, drawings.
- `coupled_embedding.tracking.Tracker`: ids over the frames of a video.
- `coupled_embedding.data.schema.KeypointSchema`: what a data set is; `coupled_embedding.data.schema.load_schema`.
- `coupled_embedding.networks.pose_network.PoseNetwork`: backbone and head;
  `coupled_embedding.data.outputs.PoseOutput`: their heatmaps and tags.
- `coupled_embedding.losses.criterion.PoseCriterion`: the weighted terms of
  `coupled_embedding.losses.heatmap.HeatmapLoss`, `coupled_embedding.losses.embedding.EmbeddingLoss` and
  `coupled_embedding.losses.scale_maps.ScaleMapLoss`.
- `coupled_embedding.decode.decode.decode`: from heatmaps and tags to people; the plain algorithm is
  `coupled_embedding.decode.reference.decode_reference`, and `coupled_embedding.decode.pipeline.InferencePipeline` runs
  network and decode.
- `coupled_embedding.evaluation.evaluate_keypoints`: the scores of a results file.
- `coupled_embedding.export.load.load_exported`: a model that `tools/export.py` wrote.
- `coupled_embedding.builders`: from a config to all of these objects.

Errors that the user can fix are subclasses of `coupled_embedding.utils.errors.UserError`.
"""

__version__ = "0.2.0"
