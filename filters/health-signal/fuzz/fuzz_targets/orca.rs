#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| health_signal_fuzz::orca(input));
