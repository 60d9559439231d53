//! HTTPS: a server with a certificate that no system knows, from an authority that the engine is told of.

use crate::engines::run;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use watersmeet::search::{OpenSearch, SearchEngine};

type Identity = (X509, PKey<Private>);

/// A certificate of `issuer`, or of its own.
fn certificate(
    name: &str,
    serial: u32,
    issuer: Option<&Identity>,
    extend: impl FnOnce(&mut X509Builder) -> Result<(), ErrorStack>,
) -> Result<Identity, ErrorStack> {
    let key = PKey::from_rsa(Rsa::generate(2048)?)?;
    let (mut names, mut builder) = (X509NameBuilder::new()?, X509::builder()?);
    names.append_entry_by_text("CN", name)?;
    let names = names.build();
    builder.set_version(2)?;
    builder.set_serial_number(&*BigNum::from_u32(serial)?.to_asn1_integer()?)?;
    builder.set_subject_name(&names)?;
    builder.set_issuer_name(issuer.map_or(&*names, |(issuer, _)| issuer.subject_name()))?;
    builder.set_pubkey(&key)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(1)?)?;
    extend(&mut builder)?;
    builder.sign(issuer.map_or(&key, |(_, key)| key), MessageDigest::sha256())?;
    Ok((builder.build(), key))
}

/// An authority, and a server on the loopback interface with a certificate of it.
fn identities() -> Result<(Identity, Identity), ErrorStack> {
    let authority = certificate("an authority", 1, None, |builder| {
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)
    })?;
    let server = certificate("a server", 2, Some(&authority), |builder| {
        let context = builder.x509v3_context(None, None);
        let address = SubjectAlternativeName::new().ip("127.0.0.1").build(&context)?;
        builder.append_extension(address)
    })?;
    Ok((authority, server))
}

/// Answers each request with an alias, over TLS. Returns its port, and what it is told of the users.
fn serve((certificate, key): &Identity) -> (u16, Receiver<String>) {
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    acceptor.set_certificate(certificate).unwrap();
    acceptor.set_private_key(key).unwrap();
    let (acceptor, listener) = (acceptor.build(), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = channel();
    // It ends with the test's process.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            // Who does not trust it goes away.
            let Ok(stream) = acceptor.accept(connection.unwrap()) else { continue };
            let mut stream = BufReader::new(stream);
            let lines = stream.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let user: String = lines.filter(|line| line.to_lowercase().starts_with("authorization")).collect();
            let body = r#"{"films-1":{"aliases":{"films":{}}}}"#;
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.get_mut().write_all(format!("{head}{body}").as_bytes());
            let _ = tell.send(user);
        }
    });
    (port, told)
}

#[test]
fn a_server_is_trusted_when_its_authority_is() {
    let (authority, server) = identities().unwrap();
    let (port, told) = serve(&server);
    let url = format!("https://127.0.0.1:{port}");
    let unknown = run(OpenSearch::new(&url).unwrap().alias("films")).unwrap_err();
    assert!(unknown.to_string().contains("certificate"), "{unknown}");

    let trusting = || OpenSearch::new(&url).unwrap().certificate_authority(&authority.0.to_pem().unwrap()).unwrap();
    let engine = trusting().user("admin", "pass:word").unwrap();
    assert_eq!(run(engine.alias("films")).unwrap().as_deref(), Some("films-1"));
    assert_eq!(told.recv().unwrap().to_lowercase(), "authorization: basic ywrtaw46cgfzczp3b3jk");

    // The name counts, too: the certificate is one for an address.
    let other_name = OpenSearch::new(&format!("https://localhost:{port}")).unwrap();
    let other_name = other_name.certificate_authority(&authority.0.to_pem().unwrap()).unwrap();
    assert!(run(other_name.alias("films")).is_err());
    assert!(trusting().certificate_authority(b"no certificate").is_err());
}

#[test]
fn passwords_are_not_taken_from_urls() {
    let error = OpenSearch::new("https://admin:secret@127.0.0.1:9200").err().unwrap();
    assert!(error.to_string().contains("user") && !error.to_string().contains("secret"), "{error}");
}
