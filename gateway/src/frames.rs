//! Protocol v1: JSON text frames or MessagePack binary ones, from the client and to the client.
//!
//! Unknown fields are ignored at both ends. A refusal never repeats what it was given.

mod auth;
mod client;
mod format;
mod server;

pub use auth::{Authed, Token};
pub use client::{ClientMessage, Hello, Incoming, Kind, Location, Locations, MAX_FIXES, Refused, Resume, parse};
pub use format::{Format, Frame};
pub use server::{
    Accepted, Ack, AckResult, Bye, DigestMessage, Entry, ErrorMessage, FriendMessage, Gone, GoneReason, Limits, Nearby,
    RefusedFix, ResetPart, RoleName, ServerMessage, Sighting, StrangersMessage, Unchanged, Welcome,
};
