//! The texts of this build's schemas, as a schema registry takes them.

/// `LocationEvent`, the values of `<prefix>.locations`.
pub const LOCATION_EVENT: &str = include_str!("../../avro/location_event.avsc");

/// `VisibilityList`, the values of `<prefix>.visibility`.
pub const VISIBILITY_LIST: &str = include_str!("../../avro/visibility_list.avsc");

/// `DeliveryBatch`, one of the two values of `<prefix>.gateway.<id>`.
pub const DELIVERY_BATCH: &str = include_str!("../../avro/delivery_batch.avsc");

/// `Notice`, the other value of `<prefix>.gateway.<id>`.
pub const NOTICE: &str = include_str!("../../avro/notice.avsc");
