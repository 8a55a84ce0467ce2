<#
.SYNOPSIS
Prepares a test machine: test signing on, and the test certificate trusted.

.DESCRIPTION
Run it once, as administrator, in a virtual machine whose Secure Boot is off. Test signing takes effect after a restart.

.PARAMETER Certificate
The test certificate (.cer) that the package was signed with; the one beside this script by default.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [string] $Certificate = (Join-Path $PSScriptRoot 'sluice.cer')
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

if (-not (Test-Path -LiteralPath $Certificate)) {
    throw "There is no certificate at $Certificate. The package's build puts it beside the driver."
}

$secureBoot = $false
try {
    $secureBoot = Confirm-SecureBootUEFI
} catch [System.PlatformNotSupportedException] {
    Write-Verbose 'This machine has no UEFI, and so no Secure Boot.'
}
if ($secureBoot) {
    throw 'Secure Boot is on: Windows will not accept test signing. Switch it off in the virtual machine first.'
}

foreach ($store in 'Root', 'TrustedPublisher') {
    if ($PSCmdlet.ShouldProcess("Cert:\LocalMachine\$store", "Import $Certificate")) {
        Import-Certificate -FilePath $Certificate -CertStoreLocation "Cert:\LocalMachine\$store" | Out-Null
    }
}

if ($PSCmdlet.ShouldProcess('the boot entry', 'Switch test signing on')) {
    & bcdedit.exe /set testsigning on
    if ($LASTEXITCODE -ne 0) {
        throw "bcdedit ended with $LASTEXITCODE."
    }
    Write-Output 'Test signing is on after the next restart.'
}
