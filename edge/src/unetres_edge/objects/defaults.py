"""How pixels become objects unless told otherwise; see `unetres_edge.objects.separate.Separation`."""

THRESHOLD = 0.5  # probability from which a pixel is object
MIN_SIZE = 16  # px; smaller objects are left out
NECK = 0.8  # objects are parted at necks narrower than this share of the thinner one
NECK_OF_CORES = 0.65  # where the model has a class between objects, whose markers are apart already as a rule
