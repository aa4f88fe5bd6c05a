//! Phones behind a gateway that obeys epochs: what they hold after what was delivered.

use std::collections::BTreeMap;

use nearcast_fanout::engine::Batch;
use nearcast_schemas::delivery::{FriendPosition, Item, Stranger};
use nearcast_schemas::topics::partition_of;

use crate::step::PARTITIONS;

/// What one session holds.
#[derive(Debug)]
pub struct Phone {
    pub user: String,
    pub gateway: usize,
    /// The epoch of the last reset.
    epoch: Option<i64>,
    pub view: BTreeMap<String, FriendPosition>,
    pub strangers: Vec<Stranger>,
    pub superseded: bool,
}

/// All sessions by handle, and the highest epoch that the gateways saw of each partition.
#[derive(Debug, Default)]
pub struct Phones {
    pub by_handle: BTreeMap<i32, Phone>,
    highest: BTreeMap<(usize, i32), i64>,
}

impl Phones {
    pub fn connect(&mut self, handle: i32, user: &str, gateway: usize) {
        let phone = Phone {
            user: user.to_owned(),
            gateway,
            epoch: None,
            view: BTreeMap::new(),
            strangers: Vec::new(),
            superseded: false,
        };
        self.by_handle.insert(handle, phone);
    }

    /// Everybody at a gateway whose place in the sequence of a worker is not the next asks for a reset.
    pub fn at_gateway(&self, gateway: usize) -> Vec<i32> {
        self.by_handle.iter().filter(|(_, phone)| phone.gateway == gateway).map(|(handle, _)| *handle).collect()
    }

    /// `in_order`: the batch follows the one before it, so that it fits what the phones hold.
    pub fn deliver(&mut self, gateway: usize, batch: &Batch, in_order: bool) {
        let mut epochs = BTreeMap::new();
        for claimed in &batch.epochs {
            let highest = self.highest.entry((gateway, claimed.partition)).or_insert(claimed.epoch);
            *highest = claimed.epoch.max(*highest);
            if claimed.epoch == *highest {
                epochs.insert(claimed.partition, claimed.epoch);
            }
        }
        for item in &batch.items.decode().unwrap() {
            match item {
                Item::Upsert(upsert) => {
                    for viewer in &upsert.viewers {
                        if let Some(phone) = self.listening(gateway, viewer.handle, &epochs) {
                            phone.view.insert(upsert.friend.clone(), upsert.position.clone());
                        }
                    }
                }
                Item::Removal(removal) => {
                    for handle in &removal.viewers {
                        if let Some(phone) = self.listening(gateway, *handle, &epochs) {
                            let before = phone.view.remove(&removal.friend);
                            assert!(
                                before.is_some() || !in_order,
                                "{} of {} was not there",
                                removal.friend,
                                phone.user
                            );
                        }
                    }
                }
                Item::Reset(reset) => {
                    let Some((phone, epoch)) = self.addressed(gateway, reset.handle, &epochs) else { continue };
                    phone.epoch = Some(epoch);
                    if reset.part == 1 {
                        phone.view.clear();
                        phone.strangers.clear();
                    }
                    for entry in &reset.entries {
                        phone.view.insert(entry.friend.clone(), entry.position.clone());
                    }
                }
                Item::Digest(digest) => {
                    if let Some(phone) = self.listening(gateway, digest.handle, &epochs).filter(|_| in_order) {
                        let mut own = nearcast_schemas::digest::ViewDigest::default();
                        phone.view.keys().for_each(|friend| own.add(friend));
                        assert_eq!((digest.count as usize, digest.digest), (phone.view.len(), own.to_i64()));
                    }
                }
                Item::Superseded(superseded) => {
                    if let Some((phone, _)) = self.addressed(gateway, superseded.handle, &epochs) {
                        phone.superseded = true;
                    }
                }
                Item::Strangers(strangers) => {
                    if let Some(phone) = self.listening(gateway, strangers.viewer, &epochs) {
                        phone.strangers = strangers.entries.clone();
                    }
                }
                Item::Applied(_) => {}
            }
        }
    }

    /// The session, if the batch speaks for its viewer's partition.
    fn addressed(&mut self, gateway: usize, handle: i32, epochs: &BTreeMap<i32, i64>) -> Option<(&mut Phone, i64)> {
        let phone = self.by_handle.get_mut(&handle)?;
        assert_eq!(phone.gateway, gateway);
        let epoch = *epochs.get(&partition_of(phone.user.as_bytes(), PARTITIONS))?;
        Some((phone, epoch))
    }

    /// The same, if the session was reset under that epoch.
    fn listening(&mut self, gateway: usize, handle: i32, epochs: &BTreeMap<i32, i64>) -> Option<&mut Phone> {
        let (phone, epoch) = self.addressed(gateway, handle, epochs)?;
        (phone.epoch == Some(epoch)).then_some(phone)
    }
}
