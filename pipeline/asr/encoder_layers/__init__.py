"""The layers that an encoder may be made of: B x T x D in, B x T x D out, blind to padding."""
