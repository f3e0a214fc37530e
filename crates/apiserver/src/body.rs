//! Response bodies: whole, in shared pieces, or a stream without an end.
//!
//! A list is sent as pieces that point into the stored objects' own bytes; nothing is copied into
//! one buffer first, so a list of a hundred thousand objects costs a hundred thousand pointers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body::Frame;

/// Small pieces are gathered into frames of about this size, so that each costs one write.
const FRAME_BYTES: usize = 64 << 10;

/// The body of a response.
pub enum Body {
    /// Everything at once.
    Whole(Option<Bytes>),
    /// Pieces in order.
    Pieces(VecDeque<Bytes>),
    /// Pieces in order, each made when it is sent.
    Made(Box<dyn Iterator<Item = Bytes> + Send>),
    /// Frames as they come.
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::Whole(None)
    }

    /// A body that is all there.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    /// Its bytes, where they are all there.
    pub(crate) fn known(&self) -> Option<Bytes> {
        match self {
            Self::Whole(bytes) => bytes.clone(),
            Self::Pieces(pieces) => {
                let mut all = BytesMut::new();
                for piece in pieces {
                    all.extend_from_slice(piece);
                }
                Some(all.freeze())
            }
            Self::Made(_) | Self::Stream(_) => None,
        }
    }

    /// A body that comes as it happens.
    pub fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::Stream(Box::pin(stream))
    }
}

/// Takes pieces worth about one frame.
fn gather(pieces: &mut VecDeque<Bytes>) -> Option<Bytes> {
    let first = pieces.pop_front()?;
    if first.len() >= FRAME_BYTES || pieces.is_empty() {
        return Some(first);
    }
    let mut frame = BytesMut::with_capacity(FRAME_BYTES + first.len());
    frame.extend_from_slice(&first);
    while frame.len() < FRAME_BYTES
        && let Some(piece) = pieces.pop_front()
    {
        frame.extend_from_slice(&piece);
    }
    Some(frame.freeze())
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(bytes) => bytes.take(),
            Self::Pieces(pieces) => gather(pieces),
            Self::Made(pieces) => pieces.next(),
            Self::Stream(stream) => match stream.as_mut().poll_next(context) {
                Poll::Ready(next) => next,
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Pieces(pieces) => pieces.is_empty(),
            Self::Made(_) | Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Pieces(pieces) => {
                http_body::SizeHint::with_exact(pieces.iter().map(|p| p.len() as u64).sum())
            }
            Self::Made(_) | Self::Stream(_) => http_body::SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_become_one_frame() {
        let mut pieces: VecDeque<Bytes> = ["a", "b", "c"]
            .into_iter()
            .map(Bytes::from_static_str)
            .collect();
        assert_eq!(gather(&mut pieces), Some(Bytes::from_static(b"abc")));
        assert_eq!(gather(&mut pieces), None);
    }

    trait FromStaticStr {
        fn from_static_str(text: &'static str) -> Bytes;
    }

    impl FromStaticStr for Bytes {
        fn from_static_str(text: &'static str) -> Bytes {
            Self::from_static(text.as_bytes())
        }
    }
}
