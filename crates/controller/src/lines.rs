//! Reads the JSON lines of a watch from a response body.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use kube::client::Body;

/// A watch event larger than this ends the watch.
const LINE_SIZE_LIMIT: usize = 64 << 20;

pub(crate) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// Bytes of `buffer` already searched for a line end.
    searched: usize,
}

impl Lines {
    pub fn new(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// The next line without its end; `None` at the end of the body. A last line without end is dropped: it was cut.
    pub async fn next(&mut self) -> Result<Option<Bytes>, kube::Error> {
        loop {
            if let Some(offset) = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let line = self.buffer.split_to(self.searched + offset).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_SIZE_LIMIT {
                return Err(kube::Error::LinesCodecMaxLineLengthExceeded);
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
