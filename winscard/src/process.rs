//! What a process has: readers, contexts, cards, by the numbers that its program knows them by.
//!
//! A fork copies memory and no other thread: locks may be held for ever in the child, readers'
//! threads are gone. So the child touches nothing of it and begins anew; to it the numbers mean
//! nothing.

use crate::card::OpenCard;
use crate::code::Code;
use crate::interrupted::{Messenger, without_signals};
use crate::logger;
use crate::readers;
use crate::settings::Settings;
use log::warn;
use scard::{Card, Context, Stack};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long the readers on USB are kept after the last context: programs establish and release one
/// after the other, and finding and opening them takes time. One that another program wants is let
/// go before.
const LINGER: Duration = Duration::from_secs(1);

/// Numbers are positive in 32 bits.
const NUMBERS: u32 = 0x7FFF_FFFF;

static CURRENT: AtomicPtr<Process> = AtomicPtr::new(null_mut());

/// A forebear of this process has opened USB. The thread that serves it there is not here, and no
/// other takes its place.
static USB_LEFT_BEHIND: AtomicBool = AtomicBool::new(false);

/// A process. It is never dropped: calls may come until its end.
#[derive(Debug)]
pub(crate) struct Process {
    settings: Settings,
    usb_opened: AtomicBool,
    /// None if there can be none.
    messenger: OnceLock<Option<Messenger>>,
    readers: Mutex<Readers>,
    closed: Condvar,
    open: Mutex<Open>,
}

/// The readers, if they are open.
#[derive(Debug, Default)]
struct Readers {
    stack: Option<Stack>,
    /// When the last context was released; none while there is one.
    idle: Option<Instant>,
    /// A thread is waiting to close them.
    lingering: bool,
}

#[derive(Debug)]
struct Open {
    last: u32,
    contexts: HashMap<u32, Context>,
    cards: HashMap<u32, Arc<OpenCard>>,
}

impl Process {
    /// This process.
    pub(crate) fn current() -> &'static Self {
        let current = CURRENT.load(Ordering::Acquire);
        #[allow(unsafe_code)]
        // SAFETY: it is null or what `begin` has leaked.
        match unsafe { current.as_ref() } {
            Some(process) => process,
            None => Self::begin(),
        }
    }

    fn begin() -> &'static Self {
        static REGISTERED: AtomicBool = AtomicBool::new(false);
        if !REGISTERED.swap(true, Ordering::AcqRel) {
            #[allow(unsafe_code)]
            // SAFETY: the function does what is allowed in a child of a process with threads.
            let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
            if failed != 0 {
                warn!("a fork will not be noticed: {failed}");
            }
        }
        let settings = Settings::of_environment();
        logger::start(settings.log);
        let open = Open {
            last: RandomState::new().hash_one(()) as u32,
            contexts: HashMap::new(),
            cards: HashMap::new(),
        };
        let process = Box::into_raw(Box::new(Self {
            settings,
            usb_opened: AtomicBool::new(false),
            messenger: OnceLock::new(),
            readers: Mutex::default(),
            closed: Condvar::new(),
            open: Mutex::new(open),
        }));
        let won =
            CURRENT.compare_exchange(null_mut(), process, Ordering::AcqRel, Ordering::Acquire);
        #[allow(unsafe_code)]
        // SAFETY: either this was just made and is known to nobody else, or another thread has
        // leaked one.
        match won {
            Ok(_) => unsafe { &*process },
            Err(other) => unsafe {
                drop(Box::from_raw(process));
                &*other
            },
        }
    }

    /// Has a context of this process cancelled, in a signal handler: no lock is taken.
    pub(crate) fn cancel_in_handler(context: u32) -> Result<(), Code> {
        #[allow(unsafe_code)]
        // SAFETY: it is null or what `begin` has leaked.
        let current = unsafe { CURRENT.load(Ordering::Acquire).as_ref() };
        let messenger = current.and_then(|process| process.messenger.get()?.as_ref());
        messenger.ok_or(Code::INVALID_HANDLE)?.cancel(context);
        Ok(())
    }

    /// A new context: its number.
    pub(crate) fn establish(&'static self) -> Result<u32, Code> {
        self.messenger.get_or_init(|| without_signals(Messenger::start));
        let mut readers = self.readers();
        let stack = match &readers.stack {
            Some(stack) => stack.clone(),
            None => {
                let stack = self.open_readers()?;
                readers.stack = Some(stack.clone());
                stack
            }
        };
        let context = Context::on(&stack)?;
        context.set_cancel_commands(self.settings.cancel_commands)?;
        readers.idle = None;
        let mut open = self.open();
        let number = open.number();
        open.contexts.insert(number, context);
        Ok(number)
    }

    fn open_readers(&self) -> Result<Stack, Code> {
        if readers::uses_usb(&self.settings) {
            if USB_LEFT_BEHIND.load(Ordering::Acquire) {
                return Err(Code::NO_SERVICE);
            }
            self.usb_opened.store(true, Ordering::Release);
        }
        without_signals(|| readers::open(&self.settings))
    }

    /// The context is no more, nor are its cards.
    pub(crate) fn release(&'static self, number: u32) -> Result<(), Code> {
        let (context, cards, last) = {
            let mut open = self.open();
            let context = open.contexts.remove(&number).ok_or(Code::INVALID_HANDLE)?;
            let all = std::mem::take(&mut open.cards);
            let (cards, others): (HashMap<_, _>, _) =
                all.into_iter().partition(|(_, card)| card.context == number);
            open.cards = others;
            (context, cards, open.contexts.is_empty())
        };
        // Before its cards go: each by itself would reset what it is connected to.
        let released = context.release();
        drop(cards);
        if last {
            self.become_idle();
        }
        released.map_err(|(_, error)| error.into())
    }

    pub(crate) fn context(&self, number: u32) -> Result<Context, Code> {
        self.open().contexts.get(&number).cloned().ok_or(Code::INVALID_HANDLE)
    }

    /// A new handle: its number.
    pub(crate) fn add_card(&self, context: u32, card: Card) -> Result<u32, Code> {
        let mut open = self.open();
        if !open.contexts.contains_key(&context) {
            // Released meanwhile, and the card is closed.
            return Err(Code::INVALID_HANDLE);
        }
        let number = open.number();
        open.cards.insert(number, Arc::new(OpenCard::new(context, card)));
        Ok(number)
    }

    pub(crate) fn card(&self, number: u32) -> Result<Arc<OpenCard>, Code> {
        self.open().cards.get(&number).cloned().ok_or(Code::INVALID_HANDLE)
    }

    /// Takes a handle out: its number is unknown from here on.
    pub(crate) fn remove_card(&self, number: u32) -> Result<Arc<OpenCard>, Code> {
        self.open().cards.remove(&number).ok_or(Code::INVALID_HANDLE)
    }

    /// There is no context any more. Readers with names of their own stay: so does what is in them.
    fn become_idle(&'static self) {
        if !readers::uses_usb(&self.settings) {
            return;
        }
        let mut readers = self.readers();
        if !self.open().contexts.is_empty() {
            return;
        }
        readers.idle = Some(Instant::now());
        if !readers.lingering {
            let thread = std::thread::Builder::new().name("scard linger".into());
            match without_signals(|| thread.spawn(|| self.linger())) {
                Ok(_) => readers.lingering = true,
                Err(error) => warn!("readers stay open: {error}"),
            }
        }
    }

    /// Closes the readers when they have been idle for long enough.
    fn linger(&self) {
        let mut readers = self.readers();
        while let Some(idle) = readers.idle {
            let left = (idle + LINGER).saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Whoever wants them again meanwhile waits until they are closed.
                drop(readers.stack.take());
                break;
            }
            let waited = self.closed.wait_timeout(readers, left);
            readers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        readers.lingering = false;
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// A number that was not given for long, and is not in use.
    fn number(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1) & NUMBERS;
            let used =
                self.contexts.contains_key(&self.last) || self.cards.contains_key(&self.last);
            if self.last != 0 && !used {
                return self.last;
            }
        }
    }
}

/// In a child, before anything else runs there. Nothing but atomics may be touched.
extern "C" fn in_child() {
    let parent = CURRENT.swap(null_mut(), Ordering::AcqRel);
    #[allow(unsafe_code)]
    // SAFETY: it is null or what `begin` has leaked.
    if unsafe { parent.as_ref() }.is_some_and(|parent| parent.usb_opened.load(Ordering::Acquire)) {
        USB_LEFT_BEHIND.store(true, Ordering::Release);
    }
}
