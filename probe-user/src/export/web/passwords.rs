//! Basic authentication (RFC 7617). A check of a password is slow on purpose, so it never runs on the thread that counts; one runs at
//! a time, and after a wrong password nobody's is checked for as long again, so that guessing takes half a CPU at most. Who was let in
//! once is let in at once from then on: of the last good password of each user a keyed hash is kept, never the password.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use axum::http::HeaderValue;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{
    hmac::{self, HMAC_SHA256, Key, Tag},
    rand::SystemRandom,
};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::config::PasswordHash;

/// How long somebody waits for others' passwords to be checked.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether somebody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::export) enum Answer {
    /// Yes.
    LetIn,
    /// No.
    Refused,
    /// Too many passwords are being checked.
    Busy,
}

#[derive(Debug)]
pub(super) struct Passwords {
    key: Key,
    /// By user of the file.
    good: Mutex<BTreeMap<String, Tag>>,
    turn: Arc<Semaphore>,
}

/// What somebody says who they are.
struct Claim {
    user: String,
    password: Vec<u8>,
}

impl Passwords {
    pub(super) fn new() -> Result<Self> {
        let key =
            Key::generate(HMAC_SHA256, &SystemRandom::new()).map_err(|_| anyhow!("no random numbers to be had"))?;
        Ok(Self { key, good: Mutex::default(), turn: Arc::new(Semaphore::new(1)) })
    }

    /// `users` has at least one.
    pub(super) async fn answer(
        &self,
        users: &BTreeMap<String, PasswordHash>,
        credentials: Option<&HeaderValue>,
    ) -> Answer {
        let Some(claim) = credentials.and_then(Claim::parse) else { return Answer::Refused };
        let hash = users.get(&claim.user);
        if hash.is_some_and(|hash| self.is_known(&claim, hash)) {
            return Answer::LetIn;
        }
        let Ok(Ok(turn)) = timeout(PATIENCE, Arc::clone(&self.turn).acquire_owned()).await else { return Answer::Busy };
        // The same may have waited before.
        if hash.is_some_and(|hash| self.is_known(&claim, hash)) {
            return Answer::LetIn;
        }
        // Who is unknown waits as long as who is not.
        let Some(compared) = hash.or_else(|| users.values().next()).cloned() else { return Answer::Refused };
        let message = message(&claim, &compared);
        let (user, password) = (claim.user, claim.password);
        let is_user = hash.is_some();
        // A task of its own: it goes on where the client leaves, so that nobody's turn comes too early.
        let check = tokio::spawn(async move {
            let started = Instant::now();
            let check = spawn_blocking(move || bcrypt::verify(password, compared.as_str()).unwrap_or(false));
            let is_good = check.await.unwrap_or(false) && is_user;
            if !is_good {
                let took = started.elapsed();
                tokio::spawn(async move {
                    sleep(took).await;
                    drop(turn);
                });
            }
            is_good
        });
        if !check.await.unwrap_or(false) {
            return Answer::Refused;
        }
        let tag = hmac::sign(&self.key, &message);
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.retain(|user, _| users.contains_key(user));
        good.insert(user, tag);
        Answer::LetIn
    }

    /// In constant time.
    fn is_known(&self, claim: &Claim, hash: &PasswordHash) -> bool {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        let tag = good.get(&claim.user);
        tag.is_some_and(|tag| hmac::verify(&self.key, &message(claim, hash), tag.as_ref()).is_ok())
    }
}

/// Hashes are of one length, so the parts cannot be taken for each other; where the file's hash changes, what was good no longer is.
fn message(claim: &Claim, hash: &PasswordHash) -> Vec<u8> {
    [hash.as_str().as_bytes(), &claim.password].concat()
}

impl Claim {
    fn parse(value: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let user = std::str::from_utf8(&decoded[..colon]).ok()?.to_owned();
        Some(Self { user, password: decoded[colon + 1..].to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::WebConfig;

    /// Of "correct horse" and "battery staple", as cheap as can be.
    const CORRECT: &str = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
    const BATTERY: &str = "$2b$04$zyxwvutsrqponmlkjihgfeEj9hZ0r426ruQozKPdS8ZvkuJvyAjnm";

    fn users(text: &str) -> BTreeMap<String, PasswordHash> {
        WebConfig::parse(Path::new("web.yml"), &format!("basic_auth_users: {{{text}}}")).unwrap().users
    }

    fn answer(passwords: &Passwords, users: &BTreeMap<String, PasswordHash>, credentials: &str) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let value = HeaderValue::from_str(&format!("bAsIc {}", BASE64_STANDARD.encode(credentials))).unwrap();
        runtime.block_on(passwords.answer(users, Some(&value)))
    }

    #[test]
    fn who_is_let_in() {
        let passwords = Passwords::new().unwrap();
        let both = users(&format!("alice: {CORRECT}, bob: {BATTERY}"));
        // Twice: once slowly, once remembered.
        for _ in 0..2 {
            for (credentials, expected) in [
                ("alice:correct horse", Answer::LetIn),
                ("bob:battery staple", Answer::LetIn),
                ("alice:battery staple", Answer::Refused),
                ("alice:", Answer::Refused),
                ("alice", Answer::Refused),
                ("Alice:correct horse", Answer::Refused),
                ("carol:correct horse", Answer::Refused),
                (":", Answer::Refused),
            ] {
                assert_eq!(answer(&passwords, &both, credentials), expected, "{credentials}");
            }
        }
        assert!(passwords.good.lock().unwrap().keys().eq(["alice", "bob"]));
    }

    #[test]
    fn what_was_good_is_forgotten_with_the_user_and_its_hash() {
        let passwords = Passwords::new().unwrap();
        let (old, new) = (users(&format!("alice: {CORRECT}, bob: {CORRECT}")), users(&format!("alice: {BATTERY}")));
        for (users, credentials, expected) in [
            (&old, "alice:correct horse", Answer::LetIn),
            (&old, "bob:correct horse", Answer::LetIn),
            (&new, "alice:correct horse", Answer::Refused),
            (&new, "bob:correct horse", Answer::Refused),
            (&new, "alice:battery staple", Answer::LetIn),
        ] {
            assert_eq!(answer(&passwords, users, credentials), expected, "{credentials}");
        }
        assert!(passwords.good.lock().unwrap().keys().eq(["alice"]));
    }

    #[test]
    fn what_are_no_credentials() {
        for value in ["", "Basic", "Basic ", "Basic !", "Basic YWxpY2U=", "Bearer YTpi", "BasicYTpi", "Basic /zr/"] {
            assert!(Claim::parse(&HeaderValue::from_static(value)).is_none(), "{value}");
        }
        // A password may have colons, and be no text.
        let claim = Claim::parse(&HeaderValue::from_static("Basic YTpiOv8=")).unwrap();
        assert_eq!((claim.user.as_str(), &claim.password[..]), ("a", &b"b:\xff"[..]));
    }
}
