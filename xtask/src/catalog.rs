//! The catalog of a driver package: what `Inf2Cat` writes, before it is signed.
//!
//! A catalog is a PKCS #7 message that signs a certificate trust list, which here lists files by their hashes. Its
//! parts are named in the SDK's `mscat.h` and `wintrust.h`; what `Inf2Cat` puts into them is on `MakeCat`'s page
//! (catalog version 2 with SHA-256) and in readers of real catalogs, as Samba's `dumpmscat` and LINBIT's
//! `generate-cat-file`. Whether Windows takes this one is for Windows to say.
use std::path::Path;

use anyhow::{Context, Result};
use authenticode::{
    AttributeCertificateIterator, DigestInfo, SpcAttributeTypeAndOptionalValue, SpcIndirectDataContent,
};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{EncapsulatedContentInfo, SignedData, SignerInfos};
use der::asn1::{BmpString, ContextSpecific, Null, ObjectIdentifier, OctetString, SetOfVec, UtcTime};
use der::{Any, DateTime, Decode, Encode, Sequence, Tag, TagMode, TagNumber};
use object_of_authenticode::read::pe::PeFile64;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use x509_cert::attr::Attribute;
use x509_cert::ext::Extension;
use x509_cert::spki::AlgorithmIdentifierOwned;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const SIGNED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.2");
const SHA_256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
/// `szOID_CTL`.
const CERTIFICATE_TRUST_LIST: ObjectIdentifier = oid("1.3.6.1.4.1.311.10.1");
/// `szOID_CATALOG_LIST`.
const CATALOG_LIST: ObjectIdentifier = oid("1.3.6.1.4.1.311.12.1.1");
/// `szOID_CATALOG_LIST_MEMBER2`: members are named by raw hashes.
const CATALOG_LIST_MEMBER2: ObjectIdentifier = oid("1.3.6.1.4.1.311.12.1.3");
/// `CAT_NAMEVALUE_OBJID`.
const NAME_VALUE: ObjectIdentifier = oid("1.3.6.1.4.1.311.12.2.1");
/// `CAT_MEMBERINFO2_OBJID`.
const MEMBER_INFO2: ObjectIdentifier = oid("1.3.6.1.4.1.311.12.2.3");
/// `SPC_INDIRECT_DATA_OBJID`.
const INDIRECT_DATA: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.1.4");
/// `SPC_CAB_DATA_OBJID`: what stands for a file without structure.
const FLAT_FILE: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.1.25");
/// `CRYPTCAT_ATTR_AUTHENTICATED | CRYPTCAT_ATTR_NAMEASCII | CRYPTCAT_ATTR_DATAASCII`.
const TEXT: u32 = 0x1001_0001;
/// The versions of Windows that each member is for: 10.0 and later.
const OS_ATTRIBUTE: &str = "2:10.0";

/// A `CTL_INFO`, encoded; `subjectUsage` is first since version and policy are absent.
#[derive(Sequence)]
struct CertificateTrustList {
    usage: Vec<ObjectIdentifier>,
    identifier: OctetString,
    this_update: UtcTime,
    algorithm: AlgorithmIdentifierOwned,
    members: Vec<TrustedSubject>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

#[derive(Sequence)]
struct TrustedSubject {
    identifier: OctetString,
    attributes: SetOfVec<Attribute>,
}

/// `CAT_NAMEVALUE`.
#[derive(Sequence)]
struct NameValue {
    name: BmpString,
    flags: u32,
    value: OctetString,
}

/// A file of the package.
pub(crate) struct Member {
    name: String,
    sha1: Vec<u8>,
    sha256: Vec<u8>,
    subject: SpcAttributeTypeAndOptionalValue,
}

impl Member {
    /// A signed image: what its own signature says of it is what the catalog says.
    pub(crate) fn image(path: &Path) -> Result<Self> {
        let bytes = read(path)?;
        let signed = embedded(&bytes).with_context(|| path.display().to_string())?;
        Ok(Self {
            name: name(path)?,
            sha1: image_digest::<Sha1>(&bytes)?,
            sha256: signed.message_digest.digest.as_bytes().to_vec(),
            subject: signed.data,
        })
    }

    /// Any other file: its bytes are hashed.
    pub(crate) fn flat(path: &Path) -> Result<Self> {
        let bytes = read(path)?;
        // SpcLink, by file, with no name.
        let no_name = Any::new(Tag::ContextSpecific { constructed: false, number: TagNumber::N0 }, [])?;
        let link = ContextSpecific { tag_number: TagNumber::N2, tag_mode: TagMode::Explicit, value: no_name };
        Ok(Self {
            name: name(path)?,
            sha1: Sha1::digest(&bytes).to_vec(),
            sha256: Sha256::digest(&bytes).to_vec(),
            subject: SpcAttributeTypeAndOptionalValue {
                value_type: FLAT_FILE,
                value: Any::encode_from(&link)?,
            },
        })
    }

    /// Members of a catalog have a line for each hash; what the file is stands with the stronger one.
    fn subjects(&self) -> Result<[TrustedSubject; 2]> {
        let indirect = SpcIndirectDataContent {
            data: self.subject.clone(),
            message_digest: DigestInfo {
                digest_algorithm: algorithm(SHA_256)?,
                digest: OctetString::new(self.sha256.as_slice())?,
            },
        };
        let mut strong = self.attributes()?;
        strong.insert(attribute(INDIRECT_DATA, Any::encode_from(&indirect)?)?)?;
        Ok([
            TrustedSubject {
                identifier: OctetString::new(self.sha1.as_slice())?,
                attributes: self.attributes()?,
            },
            TrustedSubject { identifier: OctetString::new(self.sha256.as_slice())?, attributes: strong },
        ])
    }

    fn attributes(&self) -> Result<SetOfVec<Attribute>> {
        // What stands for the subject's type in catalogs of this version; readers of real ones found it with images
        // and with flat files alike.
        let no_info = Any::new(Tag::ContextSpecific { constructed: false, number: TagNumber::N2 }, [])?;
        let mut attributes = SetOfVec::new();
        attributes.insert(attribute(MEMBER_INFO2, no_info)?)?;
        attributes.insert(attribute(NAME_VALUE, Any::encode_from(&NameValue::new("File", &self.name)?)?)?)?;
        attributes
            .insert(attribute(NAME_VALUE, Any::encode_from(&NameValue::new("OSAttr", OS_ATTRIBUTE)?)?)?)?;
        Ok(attributes)
    }
}

impl NameValue {
    fn new(name: &str, value: &str) -> Result<Self> {
        let value: Vec<u8> = value.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        Ok(Self { name: BmpString::from_utf8(name)?, flags: TEXT, value: OctetString::new(value)? })
    }
}

/// The catalog of these files, unsigned. The same files, systems and hardware IDs on the same `day` (counted from
/// 1970) give the same bytes.
pub(crate) fn write(members: &[Member], systems: &str, hardware_ids: &[&str], day: u64) -> Result<Vec<u8>> {
    let mut subjects = Vec::new();
    let mut hash = Sha256::new();
    for member in members {
        hash.update(&member.sha256);
        subjects.extend(member.subjects()?);
    }
    subjects.sort_by(|a, b| a.identifier.as_bytes().cmp(b.identifier.as_bytes()));
    let mut extensions = vec![extension("OS", systems)?];
    for (index, id) in hardware_ids.iter().enumerate().rev() {
        extensions.push(extension(&format!("HWID{}", index + 1), &id.to_lowercase())?);
    }
    let list = CertificateTrustList {
        usage: vec![CATALOG_LIST],
        identifier: OctetString::new(hash.finalize().get(..16).unwrap_or_default())?,
        this_update: UtcTime::from_date_time(DateTime::from_unix_duration(std::time::Duration::from_secs(
            day * 86_400,
        ))?)?,
        algorithm: algorithm(CATALOG_LIST_MEMBER2)?,
        members: subjects,
        extensions,
    };
    let message = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::new(),
        encap_content_info: EncapsulatedContentInfo {
            econtent_type: CERTIFICATE_TRUST_LIST,
            econtent: Some(Any::encode_from(&list)?),
        },
        certificates: None,
        crls: None,
        signer_infos: SignerInfos(SetOfVec::new()),
    };
    let message = ContentInfo { content_type: SIGNED_DATA, content: Any::encode_from(&message)? };
    Ok(message.to_der()?)
}

/// The SHA-256 hashes of a catalog's members by file name, as they stand in it.
pub(crate) fn members(catalog: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let message = ContentInfo::from_der(catalog)?.content.decode_as::<SignedData>()?;
    let list = message.encap_content_info.econtent.context("the catalog is empty")?;
    let mut found = Vec::new();
    for subject in list.decode_as::<CertificateTrustList>()?.members {
        let mut file = None;
        let mut digest = None;
        for attribute in subject.attributes.iter() {
            for value in attribute.values.iter() {
                if attribute.oid == NAME_VALUE {
                    let pair = value.decode_as::<NameValue>()?;
                    if pair.name.to_string() == "File" {
                        file = Some(utf16(pair.value.as_bytes()));
                    }
                } else if attribute.oid == INDIRECT_DATA {
                    let content = value.decode_as::<SpcIndirectDataContent>()?;
                    digest = Some(content.message_digest.digest.as_bytes().to_vec());
                }
            }
        }
        if let Some(digest) = digest {
            found.push((file.context("a member has no name")?, digest));
        }
    }
    Ok(found)
}

/// The Authenticode hash of an image, computed from its bytes.
pub(crate) fn image_digest<D: Digest + sha2::digest::Update>(bytes: &[u8]) -> Result<Vec<u8>> {
    let file = PeFile64::parse(bytes)?;
    let mut digest = D::new();
    authenticode::authenticode_digest(&file, &mut digest).context("the image has no Authenticode hash")?;
    Ok(digest.finalize().to_vec())
}

/// What an image's own signature says of it.
fn embedded(bytes: &[u8]) -> Result<SpcIndirectDataContent> {
    let file = PeFile64::parse(bytes)?;
    let mut certificates = AttributeCertificateIterator::new(&file)?.context("the image is not signed")?;
    let signature = certificates.next().context("the image is not signed")??.get_authenticode_signature()?;
    let content = signature.encapsulated_content().context("the signature is empty")?;
    Ok(Any::new(Tag::Sequence, content)?.decode_as()?)
}

fn attribute(oid: ObjectIdentifier, value: Any) -> Result<Attribute> {
    Ok(Attribute { oid, values: SetOfVec::try_from([value])? })
}

fn extension(name: &str, value: &str) -> Result<Extension> {
    let value = NameValue::new(name, value)?.to_der()?;
    Ok(Extension { extn_id: NAME_VALUE, critical: false, extn_value: OctetString::new(value)? })
}

fn algorithm(oid: ObjectIdentifier) -> Result<AlgorithmIdentifierOwned> {
    Ok(AlgorithmIdentifierOwned { oid, parameters: Some(Any::encode_from(&Null)?) })
}

fn utf16(bytes: &[u8]) -> String {
    let units = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    char::decode_utf16(units.take_while(|unit| *unit != 0)).map(|unit| unit.unwrap_or('\u{fffd}')).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn name(path: &Path) -> Result<String> {
    Ok(path.file_name().and_then(|name| name.to_str()).context("a file without a name")?.to_owned())
}
