//! TLS on both sides.

use crate::bootstrap::File;
use crate::running::{counter, options, start};
use host_sim_proxy::Proxy;
use host_sim_rig::certificates::{self, Certificates};
use host_sim_rig::client::Client;
use host_sim_rig::connect::Protocol;
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use http::Version;

pub(crate) fn context(certificates: &Certificates) -> String {
    format!(
        "common_tls_context: {{alpn_protocols: [h2, http/1.1], tls_certificates: \
         [{{certificate_chain: {{filename: '{}'}}, private_key: {{filename: '{}'}}}}]}}",
        certificates.chain.display(),
        certificates.key.display()
    )
}

#[tokio::test]
async fn alpn_decides_what_the_client_speaks() {
    let directory = tempfile::tempdir().unwrap();
    let files = certificates::ensure(directory.path()).unwrap();
    let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
    let mut file = File::to([endpoint.address()]);
    file.downstream_tls = Some(context(&files));
    let proxy = start(&file);
    let url = format!("https://{}/", proxy.listener("main").unwrap());
    for (protocol, version) in
        [(Protocol::Http1, Version::HTTP_11), (Protocol::Http2, Version::HTTP_2)]
    {
        let client = Client::new().tls(files.client_config().unwrap()).protocol(protocol);
        let response = client.get(&url).await.unwrap();
        assert_eq!((response.status, response.version), (200, version));
    }
    assert_eq!(counter(&proxy, "http.main.downstream_cx_ssl_total"), 2);
}

#[tokio::test]
async fn upstream_tls_trusts_the_root_it_is_given_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let files = certificates::ensure(directory.path()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let strangers = certificates::ensure(other.path()).unwrap();
    let mut options = EndpointOptions::named("e1");
    options.tls = Some(files.server_config().unwrap());
    let endpoint = Endpoint::start(options).await.unwrap();
    for upstream_http2 in [false, true] {
        for (ca, status) in [(&files.ca, 200), (&strangers.ca, 503)] {
            let mut file = File::to([endpoint.address()]);
            file.upstream_http2 = upstream_http2;
            file.upstream_tls = Some(format!(
                "sni: localhost, common_tls_context: {{validation_context: {{trusted_ca: \
                 {{filename: '{}'}}}}}}",
                ca.display()
            ));
            let proxy = start(&file);
            let response = Client::new().get(&crate::running::url(&proxy, "/")).await.unwrap();
            assert_eq!(response.status, status, "{}", response.text());
        }
    }
}

#[tokio::test]
async fn a_key_that_is_not_the_certificates_is_refused_by_name() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut files = certificates::ensure(one.path()).unwrap();
    files.key = certificates::ensure(two.path()).unwrap().key;
    let mut file = File::to([([127, 0, 0, 1], 1).into()]);
    file.downstream_tls = Some(context(&files));
    let text = Proxy::start(file.parse(), options()).err().unwrap().to_string();
    assert!(text.starts_with("listener \"main\": certificate_chain "), "{text}");
    assert!(text.contains("key.pem"), "{text}");
}
