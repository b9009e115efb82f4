//! Scripts of inputs and the transcripts of their effects.
