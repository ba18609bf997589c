//! What the ack API says became of each item.
//!
//! Only what it names counts: a proxy's page with status 200, or an answer cut short, takes nothing
//! off the list.

use serde::Deserialize;

/// What became of the items of one request, by their index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Taken down, now or earlier.
    pub(super) taken: Vec<usize>,
    /// Read and not taken, and why.
    pub(super) refused: Vec<(usize, String)>,
    /// Why some are not named at all, when that is so. They are to be posted again.
    pub(super) unnamed: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    results: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    message_id: String,
    result: String,
}

/// Reads an answer to a request about `messages`: one result for each, in their order.
pub(super) fn read<'a>(answer: &[u8], messages: impl ExactSizeIterator<Item = &'a str>) -> Verdict {
    let mut verdict = Verdict::default();
    let body: Body = match serde_json::from_slice(answer) {
        Ok(body) => body,
        Err(error) => {
            let begin = &answer[..answer.len().min(SHOWN_BYTES)];
            verdict.unnamed = Some(format!(
                "the answer is not the ack API's, although its status is a success ({error}): {}",
                String::from_utf8_lossy(begin)
            ));
            return verdict;
        }
    };
    let (asked, named) = (messages.len(), body.results.len());
    for (at, (message, result)) in messages.zip(&body.results).enumerate() {
        if result.message_id != message {
            verdict.unnamed = Some(format!(
                "the ack API's answer names {} where {message} was posted",
                result.message_id
            ));
            return verdict;
        }
        match result.result.as_str() {
            "recorded" | "duplicate" => verdict.taken.push(at),
            other => verdict
                .refused
                .push((at, format!("the ack API says of it: {other}"))),
        }
    }
    if named < asked {
        verdict.unnamed = Some(format!(
            "the ack API's answer names {named} of {asked} acknowledgements"
        ));
    }
    verdict
}

/// As much of a foreign answer as is shown in the log.
const SHOWN_BYTES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(answer: &str) -> Verdict {
        read(answer.as_bytes(), ["a", "b"].into_iter())
    }

    #[test]
    fn what_is_named_as_recorded_or_duplicate_is_taken() {
        let answer = r#"{"results":[{"message_id":"a","result":"recorded"},{"message_id":"b","result":"duplicate"}]}"#;
        let taken = Verdict {
            taken: vec![0, 1],
            ..Verdict::default()
        };
        assert_eq!(read_of(answer), taken);
    }

    #[test]
    fn a_page_that_is_no_answer_takes_nothing() {
        for page in ["<html>Welcome</html>", "", "{}", r#"{"results":7}"#] {
            let verdict = read_of(page);
            assert!(
                verdict.taken.is_empty() && verdict.unnamed.is_some(),
                "{page}"
            );
        }
    }

    #[test]
    fn what_is_missing_or_out_of_order_is_not_taken() {
        let fewer = read_of(r#"{"results":[{"message_id":"a","result":"recorded"}]}"#);
        assert_eq!(fewer.taken, [0]);
        assert!(fewer.unnamed.is_some());
        let other = read_of(r#"{"results":[{"message_id":"b","result":"recorded"}]}"#);
        assert!(other.taken.is_empty() && other.unnamed.is_some());
    }

    #[test]
    fn an_item_that_is_refused_is_told_apart_from_those_beside_it() {
        let verdict = read_of(
            r#"{"results":[{"message_id":"a","result":"refused"},{"message_id":"b","result":"recorded"}]}"#,
        );
        assert_eq!(verdict.taken, [1]);
        assert_eq!(verdict.refused[0].0, 0);
        assert!(verdict.unnamed.is_none());
    }
}
