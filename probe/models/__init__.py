"""A GAN as probe sees it: the DCGAN as blocks, looking at its layers and changing them for a while."""
