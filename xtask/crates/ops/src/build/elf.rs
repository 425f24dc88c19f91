//! What a program file says about itself, read from its ELF headers: enough to refuse one that a bare server cannot run.

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
/// An executable at a fixed address, or one that is position-independent.
const EXECUTABLES: [u16; 2] = [2, 3];
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DYNAMIC_ENTRY: usize = 16;
const SHT_SYMTAB: u32 = 2;

/// Everything about `file` that keeps it from being a static, stripped program for x86-64 Linux; empty when it is one.
pub(crate) fn faults(file: &[u8]) -> Vec<String> {
    read(file).unwrap_or_else(|| vec!["its headers are cut short or damaged".to_owned()])
}

/// None when something points outside of the file.
fn read(file: &[u8]) -> Option<Vec<String>> {
    if !file.starts_with(MAGIC) {
        return Some(vec!["it is no ELF file, so no program of Linux".to_owned()]);
    }
    if *file.get(4)? != CLASS_64 || *file.get(5)? != LITTLE_ENDIAN || u16_at(file, 0x12)? != MACHINE_X86_64 {
        return Some(vec!["it is for another kind of machine than x86-64".to_owned()]);
    }
    let mut faults = Vec::new();
    if !EXECUTABLES.contains(&u16_at(file, 0x10)?) {
        faults.push("it is no executable".to_owned());
    }
    for header in table(file, 0x20, 0x36, 0x38)? {
        match u32_at(header, 0)? {
            PT_INTERP => faults.push("it is not static: it asks for an interpreter (PT_INTERP)".to_owned()),
            PT_DYNAMIC => {
                let needed = needed(part(file, u64_at(header, 8)?, u64_at(header, 32)?)?)?;
                if needed > 0 {
                    faults.push(format!("it is not static: it needs {needed} shared libraries (DT_NEEDED)"));
                }
            }
            _ => {}
        }
    }
    let stripped = table(file, 0x28, 0x3a, 0x3c)?.all(|header| u32_at(header, 4) != Some(SHT_SYMTAB));
    if !stripped {
        faults.push("it is not stripped: it has a symbol table".to_owned());
    }
    Some(faults)
}

fn needed(dynamic: &[u8]) -> Option<usize> {
    let mut count = 0;
    for entry in dynamic.chunks_exact(DYNAMIC_ENTRY) {
        match u64_at(entry, 0)? {
            DT_NULL => break,
            DT_NEEDED => count += 1,
            _ => {}
        }
    }
    Some(count)
}

/// The entries of a table of headers, by where the file's own header keeps its offset, entry size and count.
fn table(file: &[u8], offset: usize, size: usize, count: usize) -> Option<impl Iterator<Item = &[u8]>> {
    let (size, count) = (u16_at(file, size)?, u16_at(file, count)?);
    let bytes = part(file, u64_at(file, offset)?, u64::from(size).checked_mul(u64::from(count))?)?;
    // A table of no entries may say that each has no size.
    Some(bytes.chunks_exact(usize::from(size.max(1))))
}

fn part(file: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let begin = usize::try_from(offset).ok()?;
    file.get(begin..begin.checked_add(usize::try_from(length).ok()?)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of headers only: one program header, one section header, and a dynamic section with one entry.
    fn elf(segment: u32, section: u32, tag: u64) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 + 64 + 32];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(4, &[CLASS_64, LITTLE_ENDIAN]);
        put(0x10, &3_u16.to_le_bytes());
        put(0x12, &MACHINE_X86_64.to_le_bytes());
        put(0x20, &64_u64.to_le_bytes());
        put(0x28, &120_u64.to_le_bytes());
        put(0x36, &56_u16.to_le_bytes());
        put(0x38, &1_u16.to_le_bytes());
        put(0x3a, &64_u16.to_le_bytes());
        put(0x3c, &1_u16.to_le_bytes());
        put(64, &segment.to_le_bytes());
        put(64 + 8, &184_u64.to_le_bytes());
        put(64 + 32, &32_u64.to_le_bytes());
        put(120 + 4, &section.to_le_bytes());
        put(184, &tag.to_le_bytes());
        file
    }

    #[test]
    fn a_static_stripped_program_has_no_faults() {
        assert_eq!(faults(&elf(1, 1, 0)), [""; 0]);
        // A static program that is position-independent has a dynamic section too, with nothing needed in it.
        assert_eq!(faults(&elf(PT_DYNAMIC, 1, 5)), [""; 0]);
    }

    #[test]
    fn each_fault_is_named() {
        let said = |file: &[u8]| faults(file).join("; ");
        assert!(said(b"#!/bin/sh\n").contains("no ELF"));
        assert!(said(&elf(PT_INTERP, 1, 0)).contains("PT_INTERP"));
        assert!(said(&elf(PT_DYNAMIC, 1, DT_NEEDED)).contains("1 shared libraries"));
        assert!(said(&elf(1, SHT_SYMTAB, 0)).contains("not stripped"));
        let both = elf(PT_INTERP, SHT_SYMTAB, 0);
        assert_eq!(faults(&both).len(), 2);
        let mut arm = elf(1, 1, 0);
        arm[0x12] = 183;
        assert!(said(&arm).contains("another kind of machine"));
        let mut object = elf(1, 1, 0);
        object[0x10] = 1;
        assert!(said(&object).contains("no executable"));
    }

    #[test]
    fn what_is_cut_short_anywhere_is_never_taken_for_good() {
        let whole = elf(PT_DYNAMIC, 1, 0);
        for length in 0..whole.len() {
            assert_ne!(faults(&whole[..length]), [""; 0], "{length}");
        }
        // This program, by the way, is linked dynamically.
        let ourselves = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
            assert!(faults(&ourselves).iter().any(|fault| fault.contains("PT_INTERP")));
        }
    }
}
