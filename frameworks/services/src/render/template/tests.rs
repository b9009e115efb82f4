use std::process::Command;

use serde_json::json;

use super::*;

fn directory() -> serde_json::Value {
    let instance = |index: u32, address: &str| {
        json!({
            "index": index, "task_id": format!("web.{index}.x"), "agent_id": "a", "host": "h", "address": address,
            "ports": {"http": 31_000 + index, "raw": 32_000 + index}, "version": 4, "state": "running", "ready": true,
        })
    };
    let labels = json!({
        "proxy.http.host": "web.example.org www.example.org bad;name",
        "proxy.http.listen": "8081",
        "proxy.raw.mode": "tcp",
        "proxy.raw.listen": "127.0.0.1:8082",
    });
    let evil = json!({"proxy.http.listen": "80\n    bind :81", "proxy.http.host": "a{b"});
    json!({
        "index": 9,
        "services": {
            "empty": {"index": 3, "labels": {}, "ports": ["http"], "instances": []},
            "evil": {"index": 3, "labels": evil, "ports": ["http"], "instances": [instance(0, "10.0.0.3")]},
            "web": {
                "index": 9, "labels": labels, "ports": ["http", "raw"],
                "instances": [instance(0, "10.0.0.1"), instance(1, "fd00::1")],
            },
        },
    })
}

fn render(name: &str, params: &[(&str, &str)]) -> String {
    let params = params
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let template = Template::open(name, params.collect()).unwrap();
    template.render(&directory()).unwrap_or_else(|error| panic!("{error}"))
}

/// Lets the real program read what was made of a template.
#[allow(clippy::print_stdout)]
fn read_by(program: &str, arguments: &[&str]) {
    match Command::new(program).args(arguments).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => println!("skipped: no {program} here"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn haproxy_understands_what_its_template_makes() {
    let text = render(
        "haproxy",
        &[("http", "127.0.0.1:8080"), ("stats_socket", "/run/x.sock")],
    );
    for part in [
        "frontend http\n    bind 127.0.0.1:8080\n",
        "    use_backend web_http if { req.hdr(host),field(1,:) -i web.example.org }\n",
        "frontend web_http\n    mode http\n    bind :8081\n    option forwardfor\n    option idle-close-on-response\n    default_backend web_http\n",
        "frontend web_raw\n    mode tcp\n    bind 127.0.0.1:8082\n",
        "backend web_http\n    mode http\n    server 0 10.0.0.1:31000\n    server 1 [fd00::1]:31001\n",
        "backend web_raw\n    mode tcp\n    server 0 10.0.0.1:32000\n",
        "backend empty_http\n    mode http\n",
    ] {
        assert!(text.contains(part), "{part}{text}");
    }
    assert!(
        !text.contains("bad;name") && !text.contains("bind :81\n") && !text.contains("a{b"),
        "{text}"
    );
    assert!(!render("haproxy", &[("http", "off")]).contains("frontend http"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("haproxy.cfg");
    std::fs::write(
        &file,
        text.replace("/run/x.sock", &directory.path().join("x.sock").display().to_string()),
    )
    .unwrap();
    read_by("haproxy", &["-c", "-f", file.to_str().unwrap()]);
}

#[test]
fn nginx_understands_what_its_template_makes() {
    let text = render("nginx", &[("http", "127.0.0.1:8080")]);
    for part in [
        "upstream web_http {\n    server 10.0.0.1:31000;\n    server [fd00::1]:31001;\n    keepalive 32;\n}\n",
        "upstream empty_http {\n    server 127.0.0.1:9 down;\n",
        "server {\n    listen 8081;\n    server_name _;\n",
        "    listen 127.0.0.1:8080;\n    server_name web.example.org www.example.org;\n",
    ] {
        assert!(text.contains(part), "{part}{text}");
    }
    assert!(
        !text.contains("raw") && !text.contains("bind :81") && !text.contains("a{b"),
        "{text}"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    std::fs::write(directory.path().join("services.conf"), text).unwrap();
    let whole = format!(
        "pid {path}/pid;\nerror_log {path}/error.log;\nevents {{}}\nhttp {{\n    access_log off;\n    include {path}/services.conf;\n}}\n"
    );
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, whole).unwrap();
    read_by(
        "nginx",
        &[
            "-t",
            "-q",
            "-p",
            directory.path().to_str().unwrap(),
            "-c",
            file.to_str().unwrap(),
        ],
    );
}

#[test]
fn a_directory_without_services_is_understood_too() {
    let nothing = json!({"index": 1, "services": {}});
    for (name, _) in BUILT_IN {
        let template = Template::open(name, BTreeMap::new()).unwrap();
        assert!(template.render(&nothing).unwrap().ends_with("\n"));
    }
}

#[test]
fn a_template_that_is_wrong_is_told_by_its_line() {
    let directory_of = tempfile::tempdir().unwrap();
    let path = directory_of.path().join("mine");
    let name = path.to_str().unwrap();
    for (source, problem) in [
        ("a\n{{ nothing }}", "line 2: undefined value"),
        (
            "{% for service in services %}{{ service.nmae }}{% endfor %}",
            "line 1: undefined value",
        ),
        ("\n\n{% if %}", "line 3: syntax error"),
        (
            "{{ endpoint(services[2].instances[0], 'admin') }}",
            "this is no instance with a port \"admin\"",
        ),
    ] {
        std::fs::write(&path, source).unwrap();
        let template = Template::open(name, BTreeMap::new()).unwrap();
        let error = template.render(&directory()).unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains(name), "{error}");
    }
    std::fs::write(&path, "{{ index }} {{ services|length }} {{ params.a }}\n").unwrap();
    let template = Template::open(name, [("a".to_owned(), "<b>".to_owned())].into()).unwrap();
    assert_eq!(template.render(&directory()).unwrap(), "9 3 <b>\n");
    let missing = Template::open("/no/such", BTreeMap::new()).unwrap_err();
    assert!(missing.to_string().contains("haproxy and nginx"), "{missing}");
}

#[test]
fn only_ports_and_addresses_are_listened_at_and_only_hosts_are_names() {
    for text in ["80", "*:80", "127.0.0.1:80", "[::1]:80", "65535"] {
        assert!(is_listen(text), "{text}");
    }
    for text in [
        "", "0", "65536", "080", "+80", "a", ":80", "::1:80", "h:80", "80 ssl", "80;", "[x]:80", "80\n",
    ] {
        assert!(!is_listen(text), "{text}");
    }
    assert!(is_hostname("a.example.org") && is_hostname("a_b"));
    assert!(!is_hostname("") && !is_hostname("a..b") && !is_hostname("a b") && !is_hostname("a;") && !is_hostname("*"));
}
