//! How messages are put on the wire: as every gRPC library does, in smaller buffers.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{self, BufferSettings};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// The buffer that a stream keeps between its messages, in bytes; a longer message gets a
/// longer one. With tonic's 8 KiB a watcher costs more than twice as
/// much.
const BUFFER: usize = 512;
/// How much is gathered before it is sent, in bytes: as tonic has it.
const SENT_FROM: usize = 32 * 1024;

/// Encodes the one and decodes the other.
#[derive(Clone, Copy, Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::new(BufferSettings::new(BUFFER, SENT_FROM))
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstDecoder::new(BufferSettings::new(BUFFER, SENT_FROM))
    }
}
