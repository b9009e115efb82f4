//! The gRPC codec: prost's, and on decoding a check that every required field is there.

use std::fmt;
use std::marker::PhantomData;

use bytes::Buf as _;
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

use crate::required::{self, Required};

/// A codec for messages whose required fields have to be there.
pub struct CheckedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CheckedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Clone for CheckedCodec<T, U> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T, U> fmt::Debug for CheckedCodec<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckedCodec")
    }
}

impl<T, U> Codec for CheckedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Name + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = CheckedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        CheckedDecoder::default()
    }
}

/// Decodes a message, or answers `InvalidArgument` naming the field that is missing.
#[derive(Debug)]
pub struct CheckedDecoder<U> {
    required: Option<Required>,
    message: PhantomData<U>,
}

impl<U: Name> Default for CheckedDecoder<U> {
    fn default() -> Self {
        Self {
            required: Required::of::<U>(),
            message: PhantomData,
        }
    }
}

impl<U: Message + Default + Name> Decoder for CheckedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The buffer is one piece, so this copies nothing.
        let bytes = source.copy_to_bytes(source.remaining());
        required::decode_by(self.required, bytes)
            .map(Some)
            .map_err(|rejection| Status::invalid_argument(rejection.to_string()))
    }
}
