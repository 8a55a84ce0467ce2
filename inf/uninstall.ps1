<#
.SYNOPSIS
Removes the filter and all that belongs to it: the component, the staged package, the service and the test certificate.

.PARAMETER Certificate
The certificate (.cer) that prepare.ps1 was given; the one beside this script by default.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [string] $Certificate = (Join-Path $PSScriptRoot 'sluice.cer')
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$left = @()

if (Get-NetAdapterBinding -ComponentID Sluice_sluice -ErrorAction SilentlyContinue) {
    if ($PSCmdlet.ShouldProcess('Sluice_sluice', 'Remove the network component')) {
        & netcfg.exe -u Sluice_sluice
        if ($LASTEXITCODE -ne 0) {
            $left += "netcfg ended with $LASTEXITCODE"
        }
    }
}

$packages = Get-WindowsDriver -Online | Where-Object { (Split-Path $_.OriginalFileName -Leaf) -eq 'sluice.inf' }
foreach ($package in $packages) {
    if ($PSCmdlet.ShouldProcess($package.Driver, 'Delete the staged package')) {
        & pnputil.exe /delete-driver $package.Driver
        if ($LASTEXITCODE -ne 0) {
            $left += "pnputil left $($package.Driver)"
        }
    }
}

if (Get-Service -Name sluice -ErrorAction SilentlyContinue) {
    if ($PSCmdlet.ShouldProcess('sluice', 'Delete the service')) {
        & sc.exe delete sluice
        if ($LASTEXITCODE -ne 0) {
            $left += "sc ended with $LASTEXITCODE; a handle to the driver may be open"
        }
    }
}

if (Test-Path -LiteralPath $Certificate) {
    $thumbprint = (New-Object System.Security.Cryptography.X509Certificates.X509Certificate2 $Certificate).Thumbprint
    foreach ($store in 'Root', 'TrustedPublisher') {
        $imported = "Cert:\LocalMachine\$store\$thumbprint"
        if ((Test-Path -LiteralPath $imported) -and $PSCmdlet.ShouldProcess($imported, 'Remove the certificate')) {
            Remove-Item -LiteralPath $imported
        }
    }
} else {
    $left += "the certificate, as there is no $Certificate to tell which it is"
}

if ($left) {
    throw "Not all could be removed: $($left -join '; ')."
}
Write-Output 'Nothing of Sluice is left, unless a restart is pending.'
