"""emqx-im: instant messaging as an extension of the EMQX broker."""

__version__ = "0.1.0"
