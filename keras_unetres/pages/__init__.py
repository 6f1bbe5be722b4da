"""Pages and pictures from figures that others have computed; nothing here runs a network or reads a data set."""
