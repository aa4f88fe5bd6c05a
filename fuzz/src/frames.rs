//! Frames of clients.

use nearcast_gateway::frames::{
    ClientMessage, ErrorMessage, Frame, Incoming, MAX_FIXES, Refused, ServerMessage, parse,
};
use nearcast_schemas::ids::{MAX_ID_BYTES, check_id};
use nearcast_schemas::refusal::Refusal;

use crate::answers;
use crate::tree::Tree;

/// One frame, taken for text and for MessagePack. What can be said in both formats is understood alike in both.
pub fn frames(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let read = read(Frame::Text(text));
        if let Some(tree) = Tree::of_json(text) {
            same(&read, &parse(Frame::Binary(&tree.msgpack())));
        }
    }
    let read = read(Frame::Binary(data));
    if let Some(tree) = Tree::of_msgpack(data) {
        same(&read, &parse(Frame::Text(&tree.json())));
    }
}

type Read = Result<Incoming, Box<Refused>>;

fn read(frame: Frame<'_>) -> Read {
    let read = parse(frame);
    match &read {
        Ok(Incoming { id, message }) => {
            check_name(id.as_deref());
            match message {
                ClientMessage::Locations(locations) => assert!(locations.fixes.len() <= MAX_FIXES),
                ClientMessage::Subscribe { friend } | ClientMessage::Unsubscribe { friend } => {
                    assert_eq!(check_id(friend), Ok(()));
                }
                _ => {}
            }
        }
        Err(refused) => {
            let Refused { refusal, detail, id, of, n } = &**refused;
            check_name(id.as_deref());
            assert!(matches!(
                refusal,
                Refusal::Malformed | Refusal::UnknownType | Refusal::IdInvalid | Refusal::TooManyFixes
            ));
            let message = detail.clone().unwrap_or_default();
            let error = ErrorMessage { re: id.clone(), of: *of, n: *n, message, ..ErrorMessage::new(*refusal) };
            answers::check(&ServerMessage::Error(Box::new(error)));
        }
    }
    read
}

fn check_name(id: Option<&str>) {
    assert!(id.is_none_or(|id| (1..=MAX_ID_BYTES).contains(&id.len())));
}

fn same(read: &Read, again: &Read) {
    match (read, again) {
        (Ok(read), Ok(again)) => assert_eq!(read, again),
        (Err(read), Err(again)) => {
            assert_eq!((read.refusal, &read.id, read.of, read.n), (again.refusal, &again.id, again.of, again.n));
        }
        (read, again) => panic!("{read:?} in one format, {again:?} in the other"),
    }
}
