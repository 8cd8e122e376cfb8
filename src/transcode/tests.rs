//! Whole streams: AAC made by an encoder, Opus judged after a decoder.
