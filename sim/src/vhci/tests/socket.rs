//! The thread, over a real socket.

use super::*;

/// The kernel's end of the sockets that a device's attachment opens.
struct FakeKernel {
    attachment: Option<Attachment>,
    port: Port<Script>,
    sockets: Receiver<UnixStream>,
}

impl FakeKernel {
    fn new(port: Port<Script>) -> Self {
        let (plugs, sockets) = channel();
        let mut next_port = 4;
        let attachment = attach_through(port.clone(), move || {
            let (device, kernel) = UnixStream::pair()?;
            plugs.send(kernel).map_err(io::Error::other)?;
            next_port += 1;
            Ok((device, next_port))
        });
        Self { attachment: Some(attachment.unwrap()), port, sockets }
    }

    /// The next socket. Reads on it end with an error instead of never.
    fn socket(&self) -> UnixStream {
        let socket = self.sockets.recv_timeout(Duration::from_secs(10)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }
}

/// The next answer to come over `socket`; it has at most `data` bytes of data.
fn read_answer(socket: &mut UnixStream, data: usize) -> Answer {
    let mut bytes = vec![0; 48 + data];
    socket.read_exact(&mut bytes).unwrap();
    answer(&mut bytes.into(), |seqnum| seqnum % 2 == 0)
}

/// The device's end has been closed.
fn expect_end(socket: &mut UnixStream) {
    assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_device_answers_over_the_socket() {
    let kernel = FakeKernel::new(Port::new(Script::default()));
    let mut socket = kernel.socket();
    assert_eq!(kernel.attachment.as_ref().unwrap().kernel_port(), Some(5));
    socket.write_all(&control(2, [0x80, 6, 0, 1, 0, 0, 64, 0], &[])).unwrap();
    assert!(matches!(read_answer(&mut socket, 18), Submitted(2, 0, 18, _)));
    socket.write_all(&bulk_out(1, b"hello")).unwrap();
    assert_eq!(read_answer(&mut socket, 0), sent(1, 5));
    assert_eq!(kernel.port.with(|device| (device.resets, device.received.clone())), {
        (1, vec![Bytes::from_static(b"hello")])
    });
    // A pending transfer ends when the test's hand puts a packet there.
    socket.write_all(&bulk_in(4, 64)).unwrap();
    kernel.port.with(|device| device.bulk.push_back(Bytes::from_static(&[0xAA; 3])));
    assert_eq!(read_answer(&mut socket, 3), received(4, 0, 3));
    // And when the device's timer runs out.
    socket.write_all(&bulk_in(6, 64)).unwrap();
    kernel.port.with(|device| device.deadline = Some(now() + Duration::from_millis(20)));
    assert_eq!(read_answer(&mut socket, 1), Submitted(6, 0, 1, vec![0x77]));
}

#[test]
fn unplugged_plugged_and_dropped() {
    let mut kernel = FakeKernel::new(Port::new(Script::default()));
    let mut first = kernel.socket();
    first.write_all(&[bulk_in(2, 64), bulk_out(1, b"first")].concat()).unwrap();
    assert_eq!(read_answer(&mut first, 0), sent(1, 5));
    kernel.port.unplug();
    expect_end(&mut first);
    kernel.port.plug();
    let mut second = kernel.socket();
    second.write_all(&bulk_out(1, b"again")).unwrap();
    assert_eq!(read_answer(&mut second, 0), sent(1, 5));
    assert_eq!(kernel.port.with(|device| device.resets), 2);
    // Out and in at once is noticed, too.
    kernel.port.unplug();
    kernel.port.plug();
    expect_end(&mut second);
    let mut third = kernel.socket();
    kernel.attachment = None;
    expect_end(&mut third);
}

#[test]
fn attached_unplugged() {
    let port = Port::new(Script::default());
    port.unplug();
    let kernel = FakeKernel::new(port.clone());
    assert_eq!(kernel.attachment.as_ref().unwrap().kernel_port(), None);
    port.plug();
    let mut socket = kernel.socket();
    socket.write_all(&bulk_out(1, b"late")).unwrap();
    assert_eq!(read_answer(&mut socket, 0), sent(1, 4));
    assert_eq!(kernel.attachment.as_ref().unwrap().kernel_port(), Some(5));
}

#[test]
fn let_go_by_the_kernel() {
    let kernel = FakeKernel::new(Port::new(Script::default()));
    let socket = kernel.socket();
    drop(socket);
    kernel.port.unplug();
    kernel.port.plug();
    let mut socket = kernel.socket();
    // Nonsense ends it from this end.
    socket.write_all(&[0; 48]).unwrap();
    expect_end(&mut socket);
}

#[test]
fn a_socket_that_cannot_be_had_is_an_error() {
    let refused =
        || -> io::Result<(UnixStream, u32)> { Err(io::ErrorKind::PermissionDenied.into()) };
    let error = attach_through(Port::new(Script::default()), refused).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}
