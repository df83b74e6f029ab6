"""Every option, its default and what it means. The defaults are the paper's COCO w32 recipe."""

from yacs.config import CfgNode as Node


def default_config() -> Node:
    """Return a fresh tree of defaults, not frozen."""
    cfg = Node()
    cfg.OUTPUT_DIR = "outputs"  # runs go to OUTPUT_DIR/NAME; never taken from a checkpoint
    cfg.NAME = ""  # empty: the config's folder and name, such as coco_ce_hrnet_w32_512; one folder, no path
    cfg.SEED = 1
    cfg.DATASET = _dataset()
    cfg.SYNTHETIC = _synthetic()
    cfg.AUGMENT = _augment()
    cfg.MODEL = _model()
    cfg.LOSS = _loss()
    cfg.TRAIN = _train()
    cfg.TEST = _test()
    return cfg


def _dataset() -> Node:
    node = Node()
    node.SCHEMA = "datasets/coco.yaml"  # joints, flips, sigmas, files: see datasets/README.md
    node.ROOT = ""  # folder of the data set; empty: the schema's own
    node.TRAIN = "train2017"  # a split of the schema
    node.VAL = "val2017"  # selects the best checkpoint; empty: no evaluation while training
    node.TEST = "val2017"  # what tools/test.py scores unless told otherwise
    node.INPUT_SIZE = 512  # S, pixels: side of the training crop, short side at test time
    node.MAX_PEOPLE = 30  # M: people per image that training keeps, those with most joints first
    node.CATEGORIES = []  # names or ids of the categories that are people, of several; empty: the schema's, or all
    # photos to train on: "annotated": with an annotation of a person or a crowd; "labelled": with a labelled joint
    node.TRAIN_IMAGES = "annotated"  # or "all", also those where nobody is
    # photos with an EXIF orientation: "upright"; "stored": never turned; empty: the schema's choice, which is upright
    node.ORIENTATION = ""  # unless the annotated size is that of the stored pixels
    # broken photos and annotations: "strict" stops with the file's name, "tolerant" leaves them out and tells;
    node.BAD_INPUT = "auto"  # "auto": tolerant in training, strict in testing
    node.IMAGE_IDS = []  # train and test only on these image ids; empty: all
    return node


def _synthetic() -> Node:
    node = Node()  # the synthetic crowd, rendered into DATASET.ROOT when its files are missing
    node.WIDTH = 192
    node.HEIGHT = 192
    node.MIN_PEOPLE = 1
    node.MAX_PEOPLE = 10
    node.CROWD_INDEX = -1.0  # in [0, 1]: steer every scene towards it; below 0: the natural mix
    node.SEED = 7
    node.TRAIN_SCENES = 4000
    node.VAL_SCENES = 100
    node.TEST_SCENES = 200
    return node


def _augment() -> Node:
    node = Node()
    node.SCALE = [0.75, 1.5]  # the crop's side in units of the photo's short side
    node.ROTATION = 30.0  # degrees, either way
    node.TRANSLATE = 0.2  # of the scaled photo size, either way
    node.FLIP = 0.5  # probability
    node.EXACT_FLIP = False  # mirror joints exactly in photo pixels; False: the released program's (one cell off)
    node.REDUCED_DECODE = True  # decode JPEGs smaller where the crop halves them anyway; False: the released pixels
    node.COLOR = 0.0  # brightness, contrast and saturation vary by up to this share
    return node


def _model() -> Node:
    node = Node()
    node.BACKBONE = "hrnet"  # or "hourglass": stacked hourglasses, each with maps of its own
    node.HEAD = "higher"  # "plain": heatmaps at S/4; "higher": at S/4 and S/2
    node.FEED_TAGS = False  # True: what leads to the heatmaps at S/2 sees the tags too, as in HigherHRNet
    node.SCALE_MAPS = False  # True: a learned scale map beside each heatmap, which the loss takes targets' widths from
    node.TAG_DIM = 8  # D
    node.WIDTH = 32  # W: channels of HRNet's highest resolution, or of a hourglass's
    node.STEM_WIDTH = 64
    node.STEM_BLOCKS = 4  # bottlenecks of stage 1
    node.STAGE_MODULES = [1, 4, 3]  # modules of stages 2, 3, 4 (2, 3, 4 branches)
    node.STAGE_BLOCKS = 4  # basic blocks of a branch
    node.HEAD_BLOCKS = 4  # basic blocks after the higher head's transposed conv
    node.STACKS = 4  # hourglasses one behind the other
    node.HOURGLASS_DEPTH = 4  # levels below S/4
    node.HOURGLASS_GROWTH = 128  # further channels a level
    node.PIXELS = "imagenet"  # input: "imagenet": ImageNet's mean and deviation; "unit": 0 to 1
    node.HEATMAP_BIAS = 0.0  # start value of the heatmap convs' bias
    node.PRETRAINED = ""  # ImageNet backbone file; a missing file is an error
    node.INIT_FROM = ""  # checkpoint whose weights training starts from, head joints carried over by name
    node.INIT_SCHEMA = "datasets/coco.yaml"  # the joints of INIT_FROM, where the file does not say
    return node


def _loss() -> Node:
    node = Node()
    node.HEATMAP_WEIGHT = 1.0
    node.PULL_WEIGHT = 1e-3
    node.PUSH_WEIGHT = 1e-3
    node.COUPLING_WEIGHT = 1e-4  # 0 switches the scale-coupled term off
    node.BETA = 0.40  # scale-adapted targets: width 2 s / BETA
    node.SCALE_ADAPTED = True  # targets' widths follow the tags; False: MODEL.SCALE_MAPS, or fixed width
    node.FOCAL = True  # False: plain squared error
    node.PULL_RAMP_START = 0  # optimizer steps with PULL_RAMP_FACTOR of the pull weight ...
    node.PULL_RAMP_END = 0  # ... which rises linearly to the whole by this step
    node.PULL_RAMP_FACTOR = 1.0
    return node


def _train() -> Node:
    node = Node()
    node.IMAGES_PER_GPU = 10  # per process and forward pass
    node.ACCUMULATE = 1  # forward passes per optimizer step
    node.DROP_LAST = True  # leave out what an epoch has left for a partial step; False: a smaller last step
    node.EPOCHS = 300
    node.OPTIMIZER = "adam"  # "adam", as the paper; "muon": orthogonalised updates, more learned per photo
    node.LR = 1.5e-3
    node.WEIGHT_DECAY = 0.0
    node.SCHEDULE = "step"  # "step": times GAMMA at MILESTONES; "cosine": flat until COSINE_START, then to 0
    node.MILESTONES = [200, 260]  # epochs
    node.GAMMA = 0.1
    node.COSINE_START = 0.6  # share of all steps
    node.WARMUP_STEPS = 500
    node.WARMUP_RATIO = 0.001
    node.CLIP_GRAD = 0.0  # largest gradient norm; 0: no clipping
    node.EMA = 0.0  # decay of the weights' moving average, which is then tested and saved; 0: none
    node.PRECISION = "fp32"  # "fp32", "bf16" or "fp16"; losses stay float32
    node.CHANNELS_LAST = True
    node.COMPILE = False
    node.SYNC_BN = True  # batch statistics over all processes (needs GPUs)
    node.WORKERS = 4  # loader processes per training process
    node.THREADS = 0  # CPU threads of the main process; 0: torch's choice
    node.LOG_EVERY = 50  # steps
    node.PICTURES_EVERY = 1000  # steps between TensorBoard pictures; 0: none
    node.EVAL_EVERY = 5  # epochs; 0: only after the last
    # True: DATASET.VAL may be the split that figures are reported on, which makes them too good; for measuring how much
    node.SELECT_ON_TEST = False
    node.SAVE_EVERY = 1  # epochs between checkpoints to continue from
    node.SAVE_STEPS = 0  # steps between checkpoints within an epoch; 0: none
    node.KEEP = 2  # checkpoints kept beside the best one
    node.MAX_BAD_STEPS = 20  # steps of an epoch with a loss or gradient that is not finite: skipped; more end the run
    return node


def _test() -> Node:
    node = Node()
    node.IMAGES_PER_BATCH = 4  # photos of like shape per forward pass
    node.FLIP = True  # average with the mirrored photo
    node.SCALES = [1.0]  # scale factors
    node.TAG_SCALES = "base"  # "base": tags of factor 1; "all": all factors' side by side (slower, more memory)
    node.NMS_KERNEL = 5  # odd, in input pixels; 7 for w48
    node.MAX_CANDIDATES = 30  # peaks per joint
    node.HEATMAP_THRESHOLD = 0.1  # peaks at or below it are dropped
    node.TAG_THRESHOLD = 1.0  # a candidate farther from every person's mean tag starts a new person
    node.GROUPING_ORDER = []  # joint names in the order in which grouping visits them; empty: the schema's
    node.GROUPING_COST = "near"  # "near": distance within 1, minus score; "steps": 100 a step of distance, minus score
    node.MAX_JOINED = 0  # only the first so many people of a photo can be joined; 0: all
    node.ASSIGNMENT = "munkres"  # "munkres": 1.1.4's choice among equal costs; "scipy": nearer tags break ties
    node.ONE_PEAK_PER_PLATEAU = False  # True: a flat top is one candidate; False: each of its pixels is
    node.PEAK_TIES = "topk"  # order of equal peaks: "topk": torch.topk's on a CPU; "rows": top to bottom, left to right
    node.ABSENT_JOINTS = "origin"  # joints without a score: at (0, 0); "zero": and 0; "guess": at their likeliest place
    node.REFINE = True  # look up absent joints at each person's best place
    node.MAX_DETECTIONS = 0  # people per photo in the results, best first; 0: all
    node.ENGINE = "pycocotools"  # who computes the scores: also "fast" (faster-coco-eval) and "crowdposetools"
    node.PRECISION = "fp32"  # of the network; decode stays float32
    node.FOLD_BN = True  # batch norm inside the convs' weights: faster, the same maps but for float32 rounding
    node.WORKERS = 2
    node.OVERLAYS = 4  # pictures each of the best, worst and most crowded photos; 0: none
    return node
