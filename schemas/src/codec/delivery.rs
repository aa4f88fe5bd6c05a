//! `DeliveryBatch` as bytes.

use super::error::Fault;
use super::read::Reader;
use super::write;
use crate::delivery::{
    Applied, DeliveryBatch, Digest, FriendPosition, Item, PartitionEpoch, Removal, Reset, ResetEntry, Stranger,
    Strangers, Superseded, Upsert, UpsertViewer,
};

/// The least bytes of a position: two doubles, a long, a boolean and three absent measures.
const LEAST_POSITION: usize = 21;
/// The least bytes of a stranger: two doubles, two longs and an integer.
const LEAST_STRANGER: usize = 19;

pub(super) fn read(from: &mut Reader<'_>) -> Result<DeliveryBatch, Fault> {
    Ok(DeliveryBatch {
        worker: from.string()?.into(),
        worker_incarnation: from.long()?,
        seq: from.long()?,
        sent_at: from.long()?,
        gateway_incarnation: from.long()?,
        epochs: from.items(2, |from| Ok(PartitionEpoch { partition: from.int()?, epoch: from.long()? }))?,
        items: read_items(from)?,
    })
}

pub(super) fn read_items(from: &mut Reader<'_>) -> Result<Vec<Item>, Fault> {
    from.items(2, read_item)
}

fn read_item(from: &mut Reader<'_>) -> Result<Item, Fault> {
    Ok(match from.long()? {
        0 => Item::Upsert(Upsert {
            friend: from.string()?.into(),
            display_name: from.string()?.into(),
            position: read_position(from)?,
            viewers: from.items(2, |from| Ok(UpsertViewer { handle: from.int()?, distance_dm: from.int()? }))?,
        }),
        1 => Item::Removal(Removal {
            friend: from.string()?.into(),
            reason: from.symbol()?,
            viewers: from.items(1, Reader::int)?,
        }),
        2 => Item::Reset(Reset {
            handle: from.int()?,
            list_version: from.long()?,
            part: from.int()?,
            parts: from.int()?,
            entries: from.items(LEAST_POSITION + 3, |from| {
                Ok(ResetEntry {
                    friend: from.string()?.into(),
                    display_name: from.string()?.into(),
                    position: read_position(from)?,
                    distance_dm: from.int()?,
                })
            })?,
        }),
        3 => Item::Applied(Applied { handle: from.int()?, list_version: from.long()? }),
        4 => Item::Digest(Digest { handle: from.int()?, count: from.int()?, digest: from.long()? }),
        5 => Item::Superseded(Superseded { handle: from.int()? }),
        6 => Item::Strangers(Strangers {
            viewer: from.int()?,
            entries: from.items(LEAST_STRANGER, |from| {
                Ok(Stranger {
                    alias: from.long()?,
                    lat: from.double()?,
                    lon: from.double()?,
                    at: from.long()?,
                    distance_dm: from.int()?,
                })
            })?,
        }),
        _ => return Err(Fault::Branch),
    })
}

fn read_position(from: &mut Reader<'_>) -> Result<FriendPosition, Fault> {
    Ok(FriendPosition {
        lat: from.double()?,
        lon: from.double()?,
        at: from.long()?,
        coarse: from.boolean()?,
        accuracy_m: from.optional(Reader::float)?,
        speed_mps: from.optional(Reader::float)?,
        heading_deg: from.optional(Reader::float)?,
    })
}

pub(super) fn write<I>(batch: &DeliveryBatch<I>, out: &mut Vec<u8>, items: impl FnOnce(&I, &mut Vec<u8>)) {
    write::string(&batch.worker, out);
    write::long(batch.worker_incarnation, out);
    write::long(batch.seq, out);
    write::long(batch.sent_at, out);
    write::long(batch.gateway_incarnation, out);
    write::items(&batch.epochs, out, |epoch, out| {
        write::int(epoch.partition, out);
        write::long(epoch.epoch, out);
    });
    items(&batch.items, out);
}

pub(super) fn write_item(item: &Item, out: &mut Vec<u8>) {
    match item {
        Item::Upsert(upsert) => {
            write::long(0, out);
            write::string(&upsert.friend, out);
            write::string(&upsert.display_name, out);
            write_position(&upsert.position, out);
            write::items(&upsert.viewers, out, |viewer, out| {
                write::int(viewer.handle, out);
                write::int(viewer.distance_dm, out);
            });
        }
        Item::Removal(removal) => {
            write::long(1, out);
            write::string(&removal.friend, out);
            write::symbol(removal.reason, out);
            write::items(&removal.viewers, out, |handle, out| write::int(*handle, out));
        }
        Item::Reset(reset) => {
            write::long(2, out);
            write::int(reset.handle, out);
            write::long(reset.list_version, out);
            write::int(reset.part, out);
            write::int(reset.parts, out);
            write::items(&reset.entries, out, |entry, out| {
                write::string(&entry.friend, out);
                write::string(&entry.display_name, out);
                write_position(&entry.position, out);
                write::int(entry.distance_dm, out);
            });
        }
        Item::Applied(applied) => {
            write::long(3, out);
            write::int(applied.handle, out);
            write::long(applied.list_version, out);
        }
        Item::Digest(digest) => {
            write::long(4, out);
            write::int(digest.handle, out);
            write::int(digest.count, out);
            write::long(digest.digest, out);
        }
        Item::Superseded(superseded) => {
            write::long(5, out);
            write::int(superseded.handle, out);
        }
        Item::Strangers(strangers) => {
            write::long(6, out);
            write::int(strangers.viewer, out);
            write::items(&strangers.entries, out, |stranger, out| {
                write::long(stranger.alias, out);
                write::double(stranger.lat, out);
                write::double(stranger.lon, out);
                write::long(stranger.at, out);
                write::int(stranger.distance_dm, out);
            });
        }
    }
}

pub(super) fn write_position(position: &FriendPosition, out: &mut Vec<u8>) {
    write::double(position.lat, out);
    write::double(position.lon, out);
    write::long(position.at, out);
    write::boolean(position.coarse, out);
    write::optional(position.accuracy_m, out, write::float);
    write::optional(position.speed_mps, out, write::float);
    write::optional(position.heading_deg, out, write::float);
}
