//! Links the shared library so that it stays loaded.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // pcscd unloads a driver with its last reader. The runtime has destructors of thread-local
        // data in this library that may run later.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
