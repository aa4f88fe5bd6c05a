//! `Notice` as bytes.

use super::error::Fault;
use super::location::{read_mode, write_mode};
use super::read::Reader;
use super::write;
use crate::notice::Notice;

pub(super) fn read(from: &mut Reader<'_>) -> Result<Notice, Fault> {
    Ok(Notice {
        kind: from.symbol()?,
        user: from.string()?.into(),
        friend: from.string()?.into(),
        list_version: from.long()?,
        mode: from.optional(read_mode)?,
        reason: from.string()?.into(),
    })
}

pub(super) fn write(notice: &Notice, out: &mut Vec<u8>) {
    write::symbol(notice.kind, out);
    write::string(&notice.user, out);
    write::string(&notice.friend, out);
    write::long(notice.list_version, out);
    write::optional(notice.mode.as_ref(), out, write_mode);
    write::string(&notice.reason, out);
}
