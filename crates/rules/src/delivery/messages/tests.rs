//! Messages in blocks: found, given up, seen in images.

use super::*;

fn message(number: u64, key: bool) -> Message {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    Message {
        id: MessageId(id),
        key: if key { id } else { NO_KEY },
        fingerprint: Fingerprint::of(id),
        accepted: number,
        last: number,
        instant: FOR_EVER,
        seq: number,
        recipient: 0,
        bytes: 10,
        pushes: 0,
        lane: LaneMark::new("default", Default::default()),
        generation: 1,
        before: None,
        behind: None,
        standing: Standing::Fresh,
    }
}

fn filled(count: u64) -> (Messages, Vec<Handle>) {
    let mut messages = Messages::default();
    let handles = (1..=count).map(|number| messages.insert(message(number, number % 2 == 0)));
    let handles = handles.collect();
    (messages, handles)
}

#[test]
fn a_message_takes_no_more_than_promised() {
    // With two tables at their emptiest: an entry of five bytes in each, 7/16 of them taken.
    assert!(size_of::<Message>() as f64 + 2.0 * 5.0 * 16.0 / 7.0 <= 128.0);
}

#[test]
fn messages_are_found_by_id_and_by_key_over_many_blocks() {
    let (messages, handles) = filled(3 * BLOCK as u64 + 5);
    for (number, &handle) in (1..).zip(&handles) {
        let wanted = message(number, number % 2 == 0);
        assert_eq!(messages[handle], wanted);
        assert_eq!(messages.find(wanted.id), Some(handle));
        let by_key = (wanted.key != NO_KEY).then_some(handle);
        assert_eq!(messages.find_key(&wanted.id.0), by_key);
    }
    assert_eq!(messages.find(message(1 << 40, false).id), None);
    assert_eq!(messages.each().count(), handles.len());
}

#[test]
fn places_that_were_given_up_are_taken_again_from_the_lowest_on() {
    let (mut messages, handles) = filled(2 * BLOCK as u64);
    let gone = [handles[BLOCK + 3], handles[5], handles[4]];
    for handle in gone {
        let id = messages[handle].id;
        messages.remove(handle);
        assert_eq!(messages.find(id), None);
        assert_eq!(messages.find_key(&id.0), None);
    }
    let again: Vec<_> = (9001..9004)
        .map(|number| messages.insert(message(number, true)))
        .collect();
    assert_eq!(again, [gone[2], gone[1], gone[0]]);
}

#[test]
fn a_block_without_messages_holds_no_memory() {
    let (mut messages, handles) = filled(BLOCK as u64 + 1);
    handles[1..]
        .iter()
        .for_each(|handle| messages.remove(*handle));
    assert!(messages.blocks[0].places.is_some() && messages.blocks[1].places.is_none());
    assert_eq!(messages.insert(message(9001, false)), handles[1]);
}

#[test]
fn an_image_shows_what_was_when_it_was_taken() {
    let (mut messages, handles) = filled(BLOCK as u64 + 2);
    let image = messages.image();
    let before = messages.clone();
    messages.change(handles[0]).pushes = 3;
    messages.end(handles[1], End::Processed, Timestamp(5));
    messages.remove(handles[2]);
    messages.insert(message(9001, true));
    let loaded = Messages::load(&image.write(Vec::new())).unwrap();
    assert_eq!(loaded, before);
    assert_ne!(loaded, messages);
    assert_eq!(loaded.find(message(3, false).id), Some(handles[2]));
    assert_eq!(loaded.find_key(&message(2, true).key), Some(handles[1]));
    assert_eq!(loaded.oldest_finished(), Position::MAX);
}

#[test]
fn half_an_image_is_refused() {
    let (messages, _) = filled(10);
    let image = messages.image().write(Vec::new());
    for cut in 0..image.len() {
        assert!(Messages::load(&image[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn the_oldest_needed_record_is_known_to_within_a_stretch() {
    let (mut messages, handles) = filled(200);
    assert_eq!(messages.oldest(), 0);
    handles[..70]
        .iter()
        .for_each(|handle| messages.remove(*handle));
    assert_eq!(messages.oldest(), 64);
    messages.end(handles[99], End::Dead, Timestamp(1));
    assert_eq!(messages.oldest_finished(), 96);
    messages.carry(handles[70], 1000);
    let old = messages.accepted_before(stretch_behind(80), 100).unwrap();
    assert_eq!(old, handles[71..95]);
    assert_eq!(messages.accepted_before(96, 10), None);
}
