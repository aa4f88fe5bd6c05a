//! What can be wrong with a record or a schema. Nothing here holds a record's content.

/// Why a record could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It does not begin with a zero byte and a schema id.
    #[error("not in the Confluent wire format")]
    NotFramed,
    /// No schema with this id is known here.
    #[error("schema id {0} is not known here")]
    UnknownSchema(u32),
    /// The id names a record that does not belong into this topic.
    #[error("schema id {0} is another record's")]
    OtherRecord(u32),
    /// The bytes are no datum of this build's schema.
    #[error("{fault} at byte {at}")]
    Malformed {
        /// What is wrong.
        fault: Fault,
        /// Where reading stopped, in bytes from the record's first.
        at: usize,
    },
    /// The bytes are no datum of the registered schema with this id, or of one that this build has no place for.
    #[error("no datum of schema id {0} that resolves into this build's")]
    Unresolved(u32),
}

/// What is wrong with a datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The record ends too early.
    #[error("cut short")]
    Truncated,
    /// Bytes follow the datum.
    #[error("bytes follow the datum")]
    Trailing,
    /// A number does not fit its type.
    #[error("number too large")]
    Overflow,
    /// A boolean is neither 0 nor 1.
    #[error("no boolean")]
    Boolean,
    /// A union has no such branch.
    #[error("no such branch of the union")]
    Branch,
    /// An enum has no such symbol.
    #[error("no such symbol of the enum")]
    Symbol,
    /// A length is negative or larger than the rest of the record.
    #[error("length beyond the record")]
    Length,
    /// An array's count is larger than the rest of the record can hold, or its size is not that of its items.
    #[error("count or size of the array is wrong")]
    Count,
    /// A string is not UTF-8.
    #[error("no UTF-8")]
    Utf8,
}

/// Why a schema or an id could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Another schema has this id.
    #[error("schema id {0} is given twice")]
    IdTaken(u32),
    /// The text is no Avro schema.
    #[error("schema id {id} is no Avro schema: {problem}")]
    Invalid {
        /// The schema's id.
        id: u32,
        /// What the parser says.
        problem: String,
    },
    /// The schema is none of this contract's records.
    #[error("schema id {id} is `{name}`, which is none of this contract's records")]
    Foreign {
        /// The schema's id.
        id: u32,
        /// Its full name, or its type where it has none.
        name: String,
    },
    /// What is written by the schema cannot be resolved into this build's.
    #[error("schema id {id} cannot be resolved into this build's: {problem}")]
    Incompatible {
        /// The schema's id.
        id: u32,
        /// Where the two differ.
        problem: String,
    },
}
