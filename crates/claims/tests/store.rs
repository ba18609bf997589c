//! Bodies on a disk that works: in pieces, over many openings, and what is refused.

mod common;

use common::{BODY_OF_BLOCKS, begin, bytes, declared, feed, id, read};
use countersign_claims::{BLOCK_BYTES, BodyStore, Declared, Error, FolderStore};
use countersign_journal::sim::SimFiles;
use proptest::prelude::*;

fn store() -> (SimFiles, FolderStore<SimFiles>) {
    let files = SimFiles::new(1);
    (files.clone(), FolderStore::new(files))
}

#[test]
fn a_body_is_read_as_it_was_written_from_every_offset() {
    let (_, store) = store();
    let body = bytes(1, BODY_OF_BLOCKS);
    begin(&store, id(1), &body);
    feed(&store, id(1), &body).expect("it is what was declared");
    for offset in [
        0,
        1,
        BLOCK_BYTES - 1,
        BLOCK_BYTES,
        BODY_OF_BLOCKS - 1,
        BODY_OF_BLOCKS,
    ] {
        let from = usize::try_from(offset).expect("it is small");
        assert_eq!(
            read(&store, id(1), offset).expect("it is whole"),
            &body[from..]
        );
    }
}

#[test]
fn an_empty_body_is_a_body() {
    let (_, store) = store();
    begin(&store, id(1), &[]);
    feed(&store, id(1), &[]).expect("it is whole at once");
    assert!(read(&store, id(1), 0).expect("it is whole").is_empty());
}

#[test]
fn what_is_not_whole_cannot_be_opened_and_is_gone_on_with_where_it_stopped() {
    let (_, store) = store();
    let body = bytes(1, BODY_OF_BLOCKS);
    begin(&store, id(1), &body);
    let half = body.len() / 2;
    let mut growing = store.resume(id(1)).expect("it was begun");
    growing.append(&body[..half]).expect("there is room");
    drop(growing);
    assert!(matches!(store.open(id(1)), Err(Error::Unknown)));
    assert_eq!(
        store.resume(id(1)).expect("it was begun").offset(),
        half as u64
    );
    feed(&store, id(1), &body).expect("it is what was declared");
    assert!(matches!(store.resume(id(1)), Err(Error::Exists)));
    assert_eq!(read(&store, id(1), 0).expect("it is whole"), body);
}

#[test]
fn nothing_is_kept_of_a_body_that_is_not_what_was_declared() {
    let (files, store) = store();
    let mut body = bytes(1, BODY_OF_BLOCKS);
    begin(&store, id(1), &body);
    body[7] ^= 1;
    assert!(matches!(
        feed(&store, id(1), &body),
        Err(Error::Mismatch { .. })
    ));
    assert!(files.lengths().is_empty());
    assert!(matches!(store.resume(id(1)), Err(Error::Unknown)));
}

#[test]
fn more_than_was_declared_is_not_taken() {
    let (_, store) = store();
    begin(&store, id(1), b"four");
    let mut growing = store.resume(id(1)).expect("it was begun");
    growing.append(b"fo").expect("there is room");
    assert!(matches!(
        growing.append(b"urs"),
        Err(Error::TooLong { bytes: 4 })
    ));
    assert_eq!(growing.offset(), 2);
}

#[test]
fn an_end_that_has_not_come_costs_nothing() {
    let (_, store) = store();
    begin(&store, id(1), b"four");
    let mut growing = store.resume(id(1)).expect("it was begun");
    growing.append(b"fo").expect("there is room");
    assert!(matches!(growing.finish(), Err(Error::Mismatch { .. })));
    assert_eq!(store.resume(id(1)).expect("it is kept").offset(), 2);
}

#[test]
fn an_id_is_used_once() {
    let (_, store) = store();
    begin(&store, id(1), b"a");
    assert!(matches!(
        store.begin(id(1), &declared(b"b")),
        Err(Error::Exists)
    ));
    feed(&store, id(1), b"a").expect("it is what was declared");
    assert!(matches!(
        store.begin(id(1), &declared(b"b")),
        Err(Error::Exists)
    ));
}

#[test]
fn what_is_removed_is_gone_and_may_be_removed_again() {
    let (files, store) = store();
    begin(&store, id(1), b"a");
    feed(&store, id(1), b"a").expect("it is what was declared");
    begin(&store, id(2), b"b");
    for body in [id(1), id(2), id(2), id(3)] {
        store.remove(body).expect("the disk works");
    }
    assert!(files.lengths().is_empty());
}

#[test]
fn the_list_tells_what_was_declared_and_what_is_whole() {
    let (_, store) = store();
    begin(&store, id(1), b"a");
    feed(&store, id(1), b"a").expect("it is what was declared");
    begin(&store, id(2), b"b");
    let listed = store.list().expect("the disk works");
    let told: Vec<_> = listed
        .into_iter()
        .map(|l| (l.id, l.declared, l.is_whole))
        .collect();
    let of = |body: &[u8]| Some(declared(body));
    assert_eq!(told, [(id(1), of(b"a"), true), (id(2), of(b"b"), false)]);
}

#[test]
fn a_full_disk_is_told_and_the_body_goes_on_when_there_is_room() {
    let (files, store) = store();
    let body = bytes(1, BODY_OF_BLOCKS);
    begin(&store, id(1), &body);
    files.set_capacity(Some(BLOCK_BYTES));
    assert!(matches!(feed(&store, id(1), &body), Err(Error::NoSpace)));
    files.set_capacity(None);
    feed(&store, id(1), &body).expect("it is what was declared");
    assert_eq!(read(&store, id(1), 0).expect("it is whole"), body);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_flipped_bit_is_never_served(at in 0..BODY_OF_BLOCKS + 1024, bit in 0u8..8) {
        let (files, store) = store();
        let body = bytes(1, BODY_OF_BLOCKS);
        begin(&store, id(1), &body);
        feed(&store, id(1), &body).expect("it is what was declared");
        let (name, length) = files.lengths().remove(0);
        files.flip_bit(&name, at % length, bit);
        match read(&store, id(1), 0) {
            Ok(served) => prop_assert_eq!(served, body),
            Err(Error::Damaged { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_file_cut_short_is_never_served(keep in 0..BODY_OF_BLOCKS) {
        let (files, store) = store();
        let body = bytes(1, BODY_OF_BLOCKS);
        begin(&store, id(1), &body);
        feed(&store, id(1), &body).expect("it is what was declared");
        let (name, _) = files.lengths().remove(0);
        files.edit(&name, |file| file.truncate(usize::try_from(keep).unwrap_or(0)));
        let is_told = matches!(read(&store, id(1), 0), Err(Error::Damaged { .. }));
        prop_assert!(is_told);
    }

    #[test]
    fn pieces_of_any_size_make_the_same_body(sizes in proptest::collection::vec(1usize..400_000, 1..8)) {
        let (_, store) = store();
        let body = bytes(2, sizes.iter().map(|size| *size as u64).sum());
        begin(&store, id(1), &body);
        let mut from = 0;
        for size in sizes {
            let mut growing = store.resume(id(1)).expect("it was begun");
            growing.append(&body[from..from + size]).expect("there is room");
            from += size;
        }
        store.resume(id(1)).expect("it was begun").finish().expect("it is what was declared");
        prop_assert_eq!(read(&store, id(1), 0).expect("it is whole"), body);
    }
}

#[test]
fn the_file_of_another_body_is_not_served_under_this_name() {
    let (files, store) = store();
    begin(&store, id(1), b"one");
    feed(&store, id(1), b"one").expect("it is what was declared");
    let other = files.bytes(&format!("{}.body", id(1)));
    begin(&store, id(2), b"two");
    feed(&store, id(2), b"two").expect("it is what was declared");
    files.edit(&format!("{}.body", id(2)), |file| *file = other.clone());
    assert!(matches!(store.open(id(2)), Err(Error::Damaged { .. })));
}

#[test]
fn a_real_directory_keeps_bodies_too() {
    let home = tempfile::tempdir().expect("a directory");
    let store = FolderStore::open_directory(home.path().join("bodies")).expect("it is made");
    let body = bytes(3, BODY_OF_BLOCKS);
    let of: Declared = declared(&body);
    store.begin(id(1), &of).expect("it is new");
    feed(&store, id(1), &body).expect("it is what was declared");
    assert_eq!(read(&store, id(1), 0).expect("it is whole"), body);
    assert!(store.free_bytes() > 0);
}
