//! A request body of unknown length that may not become longer than its route allows.

use std::task::{Context, Poll, ready};

use trilith_http::{Body, BodyError, BodyStream, Frame};

/// Fails with [`BodyError::TooLarge`] once more than `max` bytes came.
pub(crate) fn limit(body: Body, max: u64) -> Body {
    Body::stream(LimitedBody { body, left: max })
}

struct LimitedBody {
    body: Body,
    left: u64,
}

impl BodyStream for LimitedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = ready!(self.body.poll_frame(cx));
        if let Some(Ok(Frame::Data(data))) = &frame {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
            }
        }
        Poll::Ready(frame)
    }

    fn size(&self) -> Option<u64> {
        self.body.size()
    }
}
