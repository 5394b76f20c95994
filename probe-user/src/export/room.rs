//! What answers take in memory until their readers have them: whoever reads slowly, or not at all, keeps a whole one. All of a
//! listener's share so much room; who finds none is told to come again, and whoever connects meanwhile has those closed that
//! take no byte.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Extension,
    body::{Body, Bytes, HttpBody as _, to_bytes},
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

/// An answer as small as this always goes out: there is one for each connection.
const SMALL_BYTES: usize = 4 << 10;

/// The room of a listener.
#[derive(Clone, Debug)]
pub(super) struct Room {
    most_bytes: usize,
    taken_bytes: Arc<AtomicUsize>,
}

impl Room {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, taken_bytes: Arc::default() }
    }

    /// One for a connection.
    pub(super) fn share(&self) -> Share {
        Share { room: self.clone(), taken_bytes: Arc::default() }
    }

    /// What must become free for half of it to be so.
    pub(super) fn excess_bytes(&self) -> usize {
        self.taken_bytes.load(Ordering::Relaxed).saturating_sub(self.most_bytes / 2)
    }
}

/// What a connection takes of it.
#[derive(Clone, Debug)]
pub(super) struct Share {
    room: Room,
    taken_bytes: Arc<AtomicUsize>,
}

impl Share {
    pub(super) fn taken_bytes(&self) -> usize {
        self.taken_bytes.load(Ordering::Relaxed)
    }

    /// The same bytes, which take room as long as anybody has them. `None`: there is no room. One answer alone may be of any size.
    fn hold(&self, bytes: Bytes) -> Option<Bytes> {
        let taken = self.room.taken_bytes.load(Ordering::Relaxed);
        if bytes.len() > SMALL_BYTES && taken > 0 && taken + bytes.len() > self.room.most_bytes {
            return None;
        }
        for counter in [&self.room.taken_bytes, &self.taken_bytes] {
            counter.fetch_add(bytes.len(), Ordering::Relaxed);
        }
        Some(Bytes::from_owner(Held { bytes, share: self.clone() }))
    }
}

/// Bytes of an answer.
struct Held {
    bytes: Bytes,
    share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for counter in [&self.share.room.taken_bytes, &self.share.taken_bytes] {
            counter.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        }
    }
}

/// Has an answer take its room until it is sent. A stream has bounds of its own.
pub(super) async fn hold(Extension(share): Extension<Share>, request: Request, next: Next) -> Response {
    let (head, body) = next.run(request).await.into_parts();
    if matches!(body.size_hint().exact(), None | Some(0)) {
        return Response::from_parts(head, body);
    }
    let held = to_bytes(body, usize::MAX).await.ok().and_then(|bytes| share.hold(bytes));
    match held {
        Some(bytes) => Response::from_parts(head, Body::from(bytes)),
        None => {
            let words = "answers of this size wait for others to be read; try again\n";
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], words).into_response()
        }
    }
}
