//! Every refusal of this API: its stable code, its status, and what to do about it.

use axum::http::StatusCode;

/// One kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Stable name, for scripts.
    pub name: &'static str,
    /// HTTP status.
    pub status: StatusCode,
    /// What it means, in a few words.
    pub title: &'static str,
    /// What to do about it.
    pub hint: &'static str,
    /// Seconds after which trying again makes sense, when it does.
    pub retry_after_s: Option<u32>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident, $title:literal, $hint:literal $(, retry $after:literal)?;)*) => {
        $($(#[$doc])* pub const $name: Code = Code {
            name: $text,
            status: StatusCode::$status,
            title: $title,
            hint: $hint,
            retry_after_s: codes!(@retry $($after)?),
        };)*
        /// All of them.
        pub const ALL: &[Code] = &[$($name),*];
    };
    (@retry) => { None };
    (@retry $after:literal) => { Some($after) };
}

codes! {
    /// The body is not JSON, or did not arrive whole.
    BODY = "E-BODY", BAD_REQUEST, "The body is not JSON",
        "send JSON; see the detail for the place where it ceases to be JSON";
    /// A field is missing, unknown, of another type, or has a value that is not allowed.
    FIELD = "E-FIELD", BAD_REQUEST, "A field is not valid", "correct the field named in errors";
    /// The content type is not JSON.
    CONTENT_TYPE = "E-CONTENT-TYPE", UNSUPPORTED_MEDIA_TYPE, "The content type is not supported",
        "send Content-Type: application/json; a document that is not JSON travels as text in data with its content_type";
    /// The body is over the limit.
    TOO_LARGE = "E-TOO-LARGE", PAYLOAD_TOO_LARGE, "The message is too large",
        "send what is over 256 KiB as a body of its own (POST /v1/bodies), then refer to it: \"data_ref\":{\"id\":…} instead of data; countersign send @file does so by itself";
    /// Nobody registered the recipient and it never connected.
    UNKNOWN_RECIPIENT = "E-UNKNOWN-RECIPIENT", NOT_FOUND, "The recipient is not known",
        "check the name; connect the agent once, or register it with PUT /v1/agents/{name}";
    /// Another kind of target than an agent.
    TARGET = "E-TARGET", UNPROCESSABLE_ENTITY, "This kind of target is not available",
        "address one of {\"agent\":\"name\"}, {\"group\":\"name\"}, {\"labels\":{\"name\":\"value\"}} and {\"all\":true}";
    /// No such group, or one of another tenant.
    UNKNOWN_GROUP = "E-UNKNOWN-GROUP", NOT_FOUND, "The group is not known",
        "check the name; a group begins with its first member: PUT /v1/groups/{group}/members/{agent}";
    /// A send to many that is for nobody.
    NOBODY = "E-NOBODY", UNPROCESSABLE_ENTITY, "Nobody is addressed",
        "add a member to the group, or ask for labels that an agent carries";
    /// A send to many that is for more than are allowed, or a group that would be.
    TOO_MANY = "E-TOO-MANY", UNPROCESSABLE_ENTITY, "Too many agents are addressed",
        "split the group, or address fewer by their labels";
    /// More labels than an agent may carry.
    LABELS = "E-LABELS", UNPROCESSABLE_ENTITY, "The agent would carry too many labels",
        "take labels away that nobody asks for";
    /// A quorum that cannot be reached, or a deadline that has passed.
    QUORUM = "E-QUORUM", UNPROCESSABLE_ENTITY, "The quorum cannot be reached",
        "ask for no more than are addressed, by a deadline that is to come";
    /// A send to many where one message is meant.
    FAN_OUT = "E-FAN-OUT", CONFLICT, "It stands for many messages",
        "name one of its messages: GET /v1/messages/{id}/children lists them";
    /// The idempotency key was used with another content.
    KEY_REUSED = "E-KEY-REUSED", UNPROCESSABLE_ENTITY, "The idempotency key was used for another message",
        "use a new key for a new message, or send exactly what was sent before";
    /// The id belongs to another message.
    ID_TAKEN = "E-ID-TAKEN", CONFLICT, "There is another message with this id",
        "leave the id out, or make a new one; to send the same message again, use its idempotency key";
    /// The message would be expired at once.
    EXPIRED = "E-EXPIRED", UNPROCESSABLE_ENTITY, "The message would expire before it is accepted",
        "give it a later expires_at";
    /// A message that cannot be taken back any more.
    TOO_LATE = "E-TOO-LATE", CONFLICT, "The message cannot be cancelled any more",
        "look at its timeline; what its agent has is ended by its agent alone";
    /// A lane that is not parked.
    NOT_PARKED = "E-NOT-PARKED", CONFLICT, "The lane is not parked",
        "look at the agent: it names its parked lanes; a lane that is not parked goes on by itself";
    /// A message that is still under way.
    NOT_ENDED = "E-NOT-ENDED", CONFLICT, "The message has not ended",
        "wait for its end, or cancel it; what waits or is under way needs no replay";
    /// A message that its agent no longer remembers.
    BELOW_FLOOR = "E-BELOW-FLOOR", CONFLICT, "Its agent no longer remembers the message",
        "look in the back office whether it was done; say may_process_twice to have it done once more all the same";
    /// No such operation, or one of another tenant.
    UNKNOWN_OPERATION = "E-UNKNOWN-OPERATION", NOT_FOUND, "There is no such operation",
        "check the id; the list of operations names those that are remembered";
    /// Another operation has this id.
    OPERATION_ID_TAKEN = "E-OPERATION-ID-TAKEN", CONFLICT, "There is another operation with this id",
        "leave the id out, or make a new one";
    /// An operation over more messages than one may be about.
    OPERATION_TOO_LARGE = "E-OPERATION-TOO-LARGE", UNPROCESSABLE_ENTITY, "The operation is about too many messages",
        "narrow the filter, by agent, type or time, and begin one after the other";
    /// As many operations go on as may.
    TOO_MANY_OPERATIONS = "E-TOO-MANY-OPERATIONS", TOO_MANY_REQUESTS, "Too many operations are going on",
        "wait for one of them, or stop it", retry 10;
    /// Records that a filter has to read cannot be read.
    SELECTION = "E-SELECTION", INTERNAL_SERVER_ERROR, "Some messages cannot be compared with the filter",
        "their records cannot be read, see the detail; name the messages by their ids instead";
    /// No such message, or one of another tenant.
    UNKNOWN_MESSAGE = "E-UNKNOWN-MESSAGE", NOT_FOUND, "There is no such message",
        "check the id; finished messages are forgotten after the retention";
    /// The message is known, but the journal does not serve its record.
    UNREADABLE = "E-UNREADABLE", INTERNAL_SERVER_ERROR, "The message's record cannot be read",
        "look at the server's log and at its disk; the timeline names the record";
    /// No such large body, or one of another tenant.
    UNKNOWN_BODY = "E-UNKNOWN-BODY", NOT_FOUND, "There is no such large body",
        "send it again from its beginning with POST /v1/bodies; one to which no message refers goes after a day";
    /// A send to many that refers to a large body.
    BODY_TO_MANY = "E-BODY-TO-MANY", UNPROCESSABLE_ENTITY, "A large body cannot go to many in one send",
        "send it to each agent by itself: any number of messages may refer to one body, so that it is sent once";
    /// A large body that is not what was declared.
    BODY_MISMATCH = "E-BODY-MISMATCH", UNPROCESSABLE_ENTITY, "The body is not what was declared",
        "check length and SHA-256, then send it from its beginning with POST /v1/bodies; nothing of it was kept unless the detail says that there was too much";
    /// A piece that does not begin where the one before ended.
    UPLOAD_OFFSET = "E-UPLOAD-OFFSET", CONFLICT, "The bytes do not go on where the body ends",
        "ask with HEAD for Upload-Offset, and go on there";
    /// A large body that is whole.
    BODY_WHOLE = "E-BODY-WHOLE", CONFLICT, "The body is whole", "leave it: it goes by itself";
    /// A range that is not there.
    RANGE = "E-RANGE", RANGE_NOT_SATISFIABLE, "The body has no such range", "see Content-Range for its length";
    /// A message that has ended.
    ENDED = "E-ENDED", GONE, "The message has ended", "do not fetch it; look at its timeline";
    /// No such route.
    UNKNOWN_ROUTE = "E-UNKNOWN-ROUTE", NOT_FOUND, "There is no such address", "see the documentation for the routes";
    /// The route is there, but not for this method.
    METHOD = "E-METHOD", METHOD_NOT_ALLOWED, "The address does not take this method",
        "see the header Allow for those it takes";
    /// The disk is full up to its reserve.
    NO_SPACE = "E-NO-SPACE", INSUFFICIENT_STORAGE, "The disk is full up to its reserve",
        "free disk space; nothing that was accepted is lost, and acknowledgements go on", retry 5;
    /// The store holds as much as it may.
    FULL = "E-FULL", INSUFFICIENT_STORAGE, "The store is full",
        "wait until recipients have caught up", retry 30;
    /// The store has stopped.
    STOPPED = "E-STORE-STOPPED", SERVICE_UNAVAILABLE, "The store has stopped",
        "send again with the same idempotency key once the server is back", retry 1;
    /// The server is leaving.
    DRAINING = "E-DRAINING", SERVICE_UNAVAILABLE, "The server is shutting down",
        "send again with the same idempotency key", retry 1;
}

#[cfg(test)]
mod tests {
    use super::ALL;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_a_name_of_its_own_and_says_what_to_do() {
        let names: BTreeSet<_> = ALL.iter().map(|code| code.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(
            ALL.iter()
                .all(|code| code.name.starts_with("E-") && !code.hint.is_empty())
        );
    }
}
