//! Links the shared library under the name that programs look for.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpcsclite.so.1");
        // Programs unload it as they like. Readers' threads go on, and the runtime has destructors
        // of thread-local data here that run later.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
