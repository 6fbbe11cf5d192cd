//! Sealing and opening, in the age format.
//!
//! Whoever may write a store must not be able to keep the broker busy with it: nothing is
//! tried that takes long, and everything is bounded before age sees it.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    io::{self, Read as _, Write as _},
};

use age::{
    DecryptError, Decryptor, Encryptor, Recipient,
    armor::{ArmoredReader, ArmoredWriter, Format},
    x25519,
};
use zeroize::Zeroizing;

use super::{Keys, SealedProblem};

const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
const MAGIC: &[u8] = b"age-encryption.org/";
/// How the last line of a header begins.
const HEADER_END: &[u8] = b"\n--- ";
/// The largest header, in bytes: eighty recipients. age reads a header again from its
/// start for each of its lines, so an endless one would keep it busy for hours.
const MAX_HEADER: usize = 8 * 1024;

/// Encrypts to the owners of these public keys.
pub(super) fn seal(plaintext: &[u8], readers: &BTreeSet<String>) -> io::Result<Vec<u8>> {
    let readers = readers.iter().map(|reader| {
        let reader = reader.parse::<x25519::Recipient>();
        reader.map_err(io::Error::other)
    });
    let readers = readers.collect::<io::Result<Vec<_>>>()?;
    let recipients = readers.iter().map(|reader| reader as &dyn Recipient);
    let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
    let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
    let mut writer = encryptor.wrap_output(armor)?;
    writer.write_all(plaintext)?;
    writer.finish()?.finish()
}

/// Whether a text is a public key, to which can be encrypted.
pub(super) fn is_reader(text: &str) -> bool {
    text.parse::<x25519::Recipient>().is_ok()
}

/// Decrypts with any of the keys.
pub(super) fn open(file: &[u8], keys: &Keys) -> Result<Zeroizing<Vec<u8>>, SealedProblem> {
    let sealed = without_armor(file)?;
    let header = &sealed[..sealed.len().min(MAX_HEADER)];
    if !header
        .windows(HEADER_END.len())
        .any(|window| window == HEADER_END)
    {
        return Err(SealedProblem::Torn);
    }
    let decryptor = Decryptor::new_buffered(&*sealed).map_err(|_| SealedProblem::Torn)?;
    if decryptor.is_scrypt() {
        return Err(SealedProblem::Passphrase);
    }
    let mut reader = match decryptor.decrypt(keys.identities()) {
        Ok(reader) => reader,
        Err(DecryptError::NoMatchingKeys) => {
            return Err(SealedProblem::OtherKey(keys.path().to_owned()));
        }
        Err(_) => return Err(SealedProblem::Torn),
    };
    // It is shorter than what it was sealed in, and a vector that grows leaves copies behind.
    let mut plaintext = Zeroizing::new(Vec::with_capacity(sealed.len()));
    match reader.read_to_end(&mut plaintext) {
        Ok(_) => Ok(plaintext),
        Err(_) => Err(SealedProblem::Torn),
    }
}

fn without_armor(file: &[u8]) -> Result<Cow<'_, [u8]>, SealedProblem> {
    if file.starts_with(MAGIC) {
        return Ok(Cow::Borrowed(file));
    }
    if !file.starts_with(ARMOR) {
        return Err(SealedProblem::NotAge);
    }
    let mut sealed = Vec::with_capacity(file.len());
    match ArmoredReader::new(file).read_to_end(&mut sealed) {
        Ok(_) => Ok(Cow::Owned(sealed)),
        Err(_) => Err(SealedProblem::Torn),
    }
}
