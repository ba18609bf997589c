//! The arguments of a call, written as the JSON array the wire wants.

use serde::Serialize;
use signalr_protocol::Raw;

use crate::CallError;

/// The arguments of a call: a tuple with one member for each, `()` for none, or a [`Raw`] array that is sent as it is.
pub trait Arguments {
    /// Appends the array.
    ///
    /// # Errors
    ///
    /// [`CallError::Unwritable`] when a member cannot be written as JSON.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), CallError>;
}

impl Arguments for () {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), CallError> {
        out.extend_from_slice(b"[]");
        Ok(())
    }
}

impl Arguments for Raw<'_> {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), CallError> {
        out.extend_from_slice(self.as_bytes());
        Ok(())
    }
}

/// A tuple is written by serde as an array of its members, which is what is wanted here.
macro_rules! arguments_for_tuples {
    ($(($($member:ident)+))*) => {
        $(impl<$($member: Serialize),+> Arguments for ($($member,)+) {
            fn write(&self, out: &mut Vec<u8>) -> Result<(), CallError> {
                write_json(out, self)
            }
        })*
    };
}

arguments_for_tuples! {
    (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H)
}

pub(crate) fn write_json(out: &mut Vec<u8>, value: &impl Serialize) -> Result<(), CallError> {
    serde_json::to_writer(out, value).map_err(|error| CallError::Unwritable {
        detail: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(arguments: impl Arguments) -> String {
        let mut out = Vec::new();
        arguments.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_tuple_is_one_argument_for_each_member() {
        assert_eq!(written(()), "[]");
        assert_eq!(written(("a",)), r#"["a"]"#);
        assert_eq!(written((1, Some("b"), [1, 2])), r#"[1,"b",[1,2]]"#);
        assert_eq!(written(Raw::json(&b"[ 1 ]"[..])), "[ 1 ]");
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        let map = std::collections::HashMap::from([((1, 2), 3)]);
        let error = (map,).write(&mut Vec::new()).unwrap_err();
        assert!(matches!(error, CallError::Unwritable { .. }));
    }
}
