//! How messages are put on the wire: as every gRPC library does, in smaller buffers; and
//! how those that could be long become short.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{self, BufferSettings, DecodeBuf},
};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// The buffer that a stream keeps between its messages, in bytes; a longer message gets a
/// longer one. With tonic's 8 KiB a watcher costs more than twice as
/// much.
const BUFFER: usize = 512;
/// How much is gathered before it is sent, in bytes: as tonic has it.
const SENT_FROM: usize = 32 * 1024;

/// What counts of a message.
///
/// A list of empty messages takes two bytes each on the wire, and almost a hundred times as
/// many once it is decoded. So a request that may be long is not kept as it came while its
/// call goes on. Of any other, all of it counts.
pub trait Brief: From<Self::Message> + Send + 'static {
    /// The message.
    type Message: Message + Default + Send + 'static;
}

impl<M: Message + Default + Send + 'static> Brief for M {
    type Message = M;
}

/// Encodes the one, and decodes what counts of the other.
#[derive(Clone, Copy, Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

/// Decodes what counts of a message.
#[derive(Debug)]
pub struct Decoder<U: Brief>(ProstDecoder<U::Message>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Brief,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::new(BufferSettings::new(BUFFER, SENT_FROM))
    }

    fn decoder(&mut self) -> Decoder<U> {
        Decoder(ProstDecoder::new(BufferSettings::new(BUFFER, SENT_FROM)))
    }
}

impl<U: Brief> codec::Decoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let message = self.0.decode(from)?;
        Ok(message.map(U::from))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}
