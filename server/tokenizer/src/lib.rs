//! Hugging Face's `tokenizers` behind a C ABI; `tokenizer.cc` is the only caller.
//!
//! Every function that can fail returns an `Outcome` and, unless it is `Ok`, leaves a reason in
//! `error`, which the caller frees. Panics of the library are caught here: none crosses the ABI.
//! A handle is immutable, so any number of threads may use it at once.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::sync::Once;

use tokenizers::Tokenizer;

#[repr(C)]
pub enum Outcome {
    Ok = 0,
    /// The input is at fault: the JSON, an id, or a text that this vocabulary cannot spell.
    Invalid = 1,
    /// The library panicked.
    Panicked = 2,
}

/// UTF-8 without a zero at the end, owned by whoever received it.
#[repr(C)]
pub struct Text {
    data: *mut u8,
    size: usize,
}

/// An id and the bytes of the text that it came from: [begin, end).
#[repr(C)]
pub struct Token {
    id: u32,
    begin: u32,
    end: u32,
}

/// Tokens, owned by whoever received them.
#[repr(C)]
pub struct Tokens {
    data: *mut Token,
    size: usize,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An owned slice as pointer and length. `reclaim` is the way back.
fn release<T>(items: Vec<T>) -> (*mut T, usize) {
    let size = items.len();
    (Box::into_raw(items.into_boxed_slice()).cast(), size)
}

/// # Safety
/// `data` and `size` come from one call of `release` and were not reclaimed before.
unsafe fn reclaim<T>(data: *mut T, size: usize) {
    drop(Box::from_raw(ptr::slice_from_raw_parts_mut(data, size)));
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        let (data, size) = release(text.into_bytes());
        Text { data, size }
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload.downcast_ref::<&str>().map(|s| s.to_string());
    message
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_string())
}

/// Runs `work`, turning errors and panics into an outcome with its reason in `error`.
unsafe fn guard(error: *mut Text, work: impl FnOnce() -> Result<(), Failure>) -> Outcome {
    // The default hook prints to stderr, which belongs to the caller's log.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let (outcome, reason) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return Outcome::Ok,
        Ok(Err(failure)) => (Outcome::Invalid, failure.to_string()),
        Err(payload) => (Outcome::Panicked, panic_message(payload.as_ref())),
    };
    error.write(reason.into());
    outcome
}

/// # Safety
/// `data` points to `size` readable items that outlive the result.
unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        return &[]; // `data` may be null
    }
    std::slice::from_raw_parts(data, size)
}

/// Makes a tokenizer from the content of a tokenizer.json, and tells how many different tokens it
/// has, added ones included.
///
/// # Safety
/// `json` points to `size` bytes; `out`, `vocabulary_size` and `error` can be written.
#[no_mangle]
pub unsafe extern "C" fn secateur_tokenizer_create(
    json: *const u8,
    size: usize,
    out: *mut *mut Tokenizer,
    vocabulary_size: *mut u32,
    error: *mut Text,
) -> Outcome {
    guard(error, || {
        let mut tokenizer = Tokenizer::from_bytes(slice(json, size))?;
        tokenizer.with_truncation(None)?;
        tokenizer.with_padding(None);
        vocabulary_size.write(u32::try_from(tokenizer.get_vocab_size(true))?);
        out.write(Box::into_raw(Box::new(tokenizer)));
        Ok(())
    })
}

/// # Safety
/// `handle` comes from `secateur_tokenizer_create`, and nobody uses it any more.
#[no_mangle]
pub unsafe extern "C" fn secateur_tokenizer_free(handle: *mut Tokenizer) {
    // A panicking destructor must not unwind into the caller; there is nobody to tell.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(handle))));
}

/// # Safety
/// `handle` is alive; `text` points to `size` bytes; `out` and `error` can be written.
#[no_mangle]
pub unsafe extern "C" fn secateur_tokenizer_encode(
    handle: *const Tokenizer,
    text: *const u8,
    size: usize,
    out: *mut Tokens,
    error: *mut Text,
) -> Outcome {
    guard(error, || {
        let text = std::str::from_utf8(slice(text, size))?;
        // `encode` counts offsets in bytes (`encode_char_offsets` counts characters).
        let encoding = (*handle).encode(text, false)?;
        let offsets = encoding.get_offsets().iter();
        let tokens = encoding
            .get_ids()
            .iter()
            .zip(offsets)
            .map(|(&id, &(begin, end))| {
                Ok(Token {
                    id,
                    begin: u32::try_from(begin)?,
                    end: u32::try_from(end)?,
                })
            });
        let (data, size) = release(tokens.collect::<Result<Vec<Token>, Failure>>()?);
        out.write(Tokens { data, size });
        Ok(())
    })
}

/// # Safety
/// `handle` is alive; `ids` points to `size` ids; `out` and `error` can be written.
#[no_mangle]
pub unsafe extern "C" fn secateur_tokenizer_decode(
    handle: *const Tokenizer,
    ids: *const u32,
    size: usize,
    out: *mut Text,
    error: *mut Text,
) -> Outcome {
    guard(error, || {
        let ids = slice(ids, size);
        // The library leaves unknown ids out without a word.
        if let Some(id) = ids.iter().find(|&&id| (*handle).id_to_token(id).is_none()) {
            return Err(format!("no token has the id {id}").into());
        }
        out.write((*handle).decode(ids, false)?.into());
        Ok(())
    })
}

/// The id of `token`; -1 if there is no such token.
///
/// # Safety
/// `handle` is alive; `token` points to `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn secateur_tokenizer_token_to_id(
    handle: *const Tokenizer,
    token: *const u8,
    size: usize,
) -> i64 {
    let find = || (*handle).token_to_id(std::str::from_utf8(slice(token, size)).ok()?);
    let id = catch_unwind(AssertUnwindSafe(find)).unwrap_or(None);
    id.map_or(-1, i64::from)
}

/// # Safety
/// `text` comes from one of the functions above and was not freed before.
#[no_mangle]
pub unsafe extern "C" fn secateur_tokenizer_free_text(text: Text) {
    reclaim(text.data, text.size);
}

/// # Safety
/// `tokens` comes from `secateur_tokenizer_encode` and was not freed before.
#[no_mangle]
pub unsafe extern "C" fn secateur_tokenizer_free_tokens(tokens: Tokens) {
    reclaim(tokens.data, tokens.size);
}
