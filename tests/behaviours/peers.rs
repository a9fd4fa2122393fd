//! What other stacks get wrong, shown right: pcsc-lite as observed in 2.5.1.

use crate::common::{self, run, until};
use crate::fixture::{
    ECHO, ECHOED, NEVER, PROMPT, bench, busy, connect, exchange, one, outstanding, waiting,
};
use scard::{Disposition, Error, Protocols, ShareMode, State};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

/// There 195 of 200 are lost that are issued right after a status wait began (case 47 is about
/// those), and a running command cannot be cancelled at all.
#[test]
fn a_cancel_right_after_a_command_began_is_not_lost() {
    let bench = bench("default");
    let context = bench.context();
    let mut card = bench.connect(&context);
    for round in 0..200 {
        let transmit = run(move || (card.transmit_owned(&NEVER, None), card));
        while context.outstanding_calls() == Ok(0) {
            std::hint::spin_loop();
        }
        context.cancel().unwrap();
        let (result, back) = transmit.join();
        assert_eq!(result, Err(Error::Cancelled), "{round}");
        card = back;
        // The card was reset if the command had been sent.
        let leave = Disposition::LeaveCard;
        card.reconnect(ShareMode::Shared, Protocols::ANY, leave).unwrap();
    }
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED);
}

/// There cancel waits for the wait it is to end, if another thread has called anything in the same
/// context, and so do all other contexts of the process.
#[test]
fn cancel_does_not_block_while_other_threads_use_the_context() {
    let bench = bench("three-slots");
    let (a, b) = (bench.context(), bench.context());
    let names = a.list_readers_owned().unwrap();
    let card = connect(&a, &names[0], ShareMode::Shared).unwrap();
    let wait = waiting(&a, None, one(&names[2], State::EMPTY));
    // A cancel that comes before it is not remembered.
    outstanding(&a, 1);
    let transmit = run(move || (card.transmit_owned(&NEVER, None), card));
    until("the reader is at it", || busy(&bench, 0));
    let done = Arc::new(AtomicBool::new(false));
    let calls = Arc::new([const { AtomicU32::new(0) }; 2]);
    let others = [&a, &b].into_iter().enumerate().map(|(n, context)| {
        let (context, name) = (context.clone(), names[1].clone());
        let (done, calls) = (Arc::clone(&done), Arc::clone(&calls));
        run(move || {
            while !done.load(Ordering::Relaxed) {
                context.list_readers_owned().unwrap();
                match connect(&context, &name, ShareMode::Shared) {
                    Ok(card) => card.disconnect(Disposition::LeaveCard).unwrap(),
                    // It is an outstanding call of that context as any other.
                    Err(error) => assert_eq!((n, error), (0, Error::Cancelled)),
                }
                calls[n].fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let others: Vec<_> = others.collect();
    let all_call = || calls.iter().all(|calls| calls.load(Ordering::Relaxed) > 0);
    until("both contexts are in use", all_call);
    let began = Instant::now();
    a.cancel().unwrap();
    assert!(began.elapsed() < PROMPT);
    assert_eq!(wait.join().0, Err(Error::Cancelled));
    assert_eq!(transmit.join().0, Err(Error::Cancelled));
    done.store(true, Ordering::Relaxed);
    others.into_iter().for_each(common::Running::join);
}

/// There release does not wake the context's wait, and freezes the process until that ends.
#[test]
fn release_wakes_its_wait_and_freezes_nobody() {
    let bench = bench("empty");
    let (a, b) = (bench.context(), bench.context());
    let waits: Vec<_> =
        (0..3).map(|_| waiting(&a, None, one(&bench.reader(), State::EMPTY))).collect();
    let theirs = waiting(&b, None, one(&bench.reader(), State::EMPTY));
    outstanding(&a, 3);
    outstanding(&b, 1);
    let began = Instant::now();
    a.release().unwrap();
    b.list_readers_owned().unwrap();
    for wait in waits {
        assert_eq!(wait.join().0, Err(Error::Cancelled));
    }
    assert!(began.elapsed() < PROMPT);
    assert_eq!(b.outstanding_calls(), Ok(1), "another context's goes on");
    b.cancel().unwrap();
    assert_eq!(theirs.join().0, Err(Error::Cancelled));
}

/// There three clients that hold transactions back to back have 291, 1 and 1 of them.
#[test]
fn transactions_are_served_first_come_first_served() {
    const EACH: u32 = 100;
    let bench = bench("default");
    let held = Arc::new([const { AtomicU32::new(0) }; 3]);
    let keeper = bench.connect(&bench.context());
    keeper.begin_transaction().unwrap();
    let clients: Vec<_> = (0..3)
        .map(|n| {
            let (context, reader) = (bench.context(), bench.reader());
            let held = Arc::clone(&held);
            let queued = context.clone();
            let client = run(move || {
                // Their connects wait for the keeper, too.
                let mut card = connect(&context, &reader, ShareMode::Shared).unwrap();
                while held[n].load(Ordering::Relaxed) < EACH {
                    let transaction = card.transaction().unwrap();
                    assert_eq!(exchange(&transaction, &ECHO).unwrap(), ECHOED);
                    held[n].fetch_add(1, Ordering::Relaxed);
                    transaction.end(Disposition::LeaveCard).unwrap();
                }
                let others = [0, 1, 2].map(|n| held[n].load(Ordering::Relaxed));
                card.disconnect(Disposition::LeaveCard).unwrap();
                others
            });
            (client, queued)
        })
        .collect();
    clients.iter().for_each(|(_, context)| outstanding(context, 1));
    keeper.end_transaction(Disposition::LeaveCard).unwrap();
    let shares: Vec<_> = clients.into_iter().map(|(client, _)| client.join()).collect();
    // When the first is through, nobody has had less than two thirds of its share.
    let first = shares.iter().min_by_key(|shares| shares.iter().sum::<u32>()).unwrap();
    assert!(first.iter().all(|held| *held >= EACH * 2 / 3), "{first:?}");
}

/// There who wants to be alone waits for ever, and cannot be cancelled.
#[test]
fn reconnect_to_exclusive_does_not_wait_for_the_others() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let other = bench.connect(&b);
    let mut card = bench.connect(&a);
    let alone = run(move || {
        let leave = Disposition::LeaveCard;
        (card.reconnect(ShareMode::Exclusive, Protocols::ANY, leave), card)
    });
    let (result, card) = alone.join();
    assert_eq!(result, Err(Error::SharingViolation));
    assert_eq!(exchange(&card, &ECHO).unwrap(), ECHOED, "it shares as before");
    assert_eq!(exchange(&other, &ECHO).unwrap(), ECHOED);
}

/// There a connect that waits for a transaction has no bound, and nothing ends it but that.
#[test]
fn a_connect_that_waits_for_a_transaction_can_be_ended() {
    let bench = bench("default");
    let (a, b) = (bench.context(), bench.context());
    let held = bench.connect(&b);
    held.begin_transaction().unwrap();
    for release in [false, true] {
        let connecting = run({
            let (a, reader) = (a.clone(), bench.reader());
            move || connect(&a, &reader, ShareMode::Shared).map(drop)
        });
        outstanding(&a, 1);
        match release {
            false => a.cancel().unwrap(),
            true => a.clone().release().unwrap(),
        }
        assert_eq!(connecting.join(), Err(Error::Cancelled));
    }
    held.end_transaction(Disposition::LeaveCard).unwrap();
}
