//! The arguments of a call, written as the array the wire wants.

use serde::Serialize;
use signalr_protocol::{Encoding, Raw};

use crate::CallError;

/// The arguments of a call: a tuple with one member for each, `()` for none, or a [`Raw`] array that is sent as it is, put
/// into the connection's encoding where it has to be.
pub trait Arguments {
    /// The array, in this encoding.
    ///
    /// # Errors
    ///
    /// [`CallError::Unwritable`] when a member cannot be written.
    fn write(&self, encoding: Encoding) -> Result<Raw<'_>, CallError>;
}

impl Arguments for () {
    fn write(&self, encoding: Encoding) -> Result<Raw<'_>, CallError> {
        write::<[(); 0]>(encoding, &[])
    }
}

impl Arguments for Raw<'_> {
    fn write(&self, encoding: Encoding) -> Result<Raw<'_>, CallError> {
        Ok(Raw::new(encoding, self.to_encoding(encoding)))
    }
}

/// A tuple is written by serde as an array of its members, which is what is wanted here.
macro_rules! arguments_for_tuples {
    ($(($($member:ident)+))*) => {
        $(impl<$($member: Serialize),+> Arguments for ($($member,)+) {
            fn write(&self, encoding: Encoding) -> Result<Raw<'_>, CallError> {
                write(encoding, self)
            }
        })*
    };
}

arguments_for_tuples! {
    (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H)
}

pub(crate) fn write<T: Serialize + ?Sized>(
    encoding: Encoding,
    value: &T,
) -> Result<Raw<'static>, CallError> {
    Raw::write(encoding, value).map_err(|error| CallError::Unwritable {
        detail: error.detail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(arguments: impl Arguments) -> String {
        let written = arguments.write(Encoding::Json).unwrap();
        String::from_utf8(written.as_bytes().to_vec()).unwrap()
    }

    fn messagepack(arguments: impl Arguments) -> Vec<u8> {
        let written = arguments.write(Encoding::MessagePack).unwrap();
        assert_eq!(written.encoding(), Encoding::MessagePack);
        written.as_bytes().to_vec()
    }

    #[test]
    fn a_tuple_is_one_argument_for_each_member() {
        assert_eq!(json(()), "[]");
        assert_eq!(json(("a",)), r#"["a"]"#);
        assert_eq!(json((1, Some("b"), [1, 2])), r#"[1,"b",[1,2]]"#);
        assert_eq!(messagepack(()), [0x90]);
        assert_eq!(messagepack(("a",)), [0x91, 0xA1, b'a']);
        assert_eq!(messagepack((1, None::<u8>, [2])), [0x93, 1, 0xC0, 0x91, 2]);
    }

    #[test]
    fn a_raw_array_is_sent_as_it_is_or_put_into_the_other_encoding() {
        assert_eq!(json(Raw::json(&b"[ 1 ]"[..])), "[ 1 ]");
        assert_eq!(messagepack(Raw::json(&b"[ 1 ]"[..])), [0x91, 1]);
        assert_eq!(
            messagepack(Raw::messagepack(&[0x91, 0xCC, 1][..])),
            [0x91, 0xCC, 1]
        );
        assert_eq!(json(Raw::messagepack(&[0x91, 0xCC, 1][..])), "[1]");
    }

    #[test]
    fn what_an_encoding_cannot_hold_is_refused() {
        let map = std::collections::HashMap::from([((1, 2), 3)]);
        let arguments = (map,);
        let error = arguments.write(Encoding::Json).unwrap_err();
        assert!(matches!(error, CallError::Unwritable { .. }));
    }
}
