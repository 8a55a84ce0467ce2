<#
.SYNOPSIS
Removes the filter and all that belongs to it: the component, the staged packages, the service and the test certificate.

.DESCRIPTION
Unbinding a filter restarts the stack of each adapter: connections drop, remote desktop and 802.1X among them.

While a program has \\.\Sluice open the driver cannot unload: the service stays, as stopping. The script looks for
sluice.exe first, and afterwards for whatever is left; it ends with 0 only if it found nothing.

.PARAMETER Certificate
The certificate (.cer) that prepare.ps1 was given; the one beside this script by default.

.PARAMETER Force
End sluice.exe if it runs. Its frames in flight are completed first; what it had not submitted is not sent.

.PARAMETER KeepCertificate
Leave the certificate trusted.

.PARAMETER KeepPackages
Leave the staged packages in the driver store.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [string] $Certificate = (Join-Path $PSScriptRoot 'sluice.cer'),
    [switch] $Force,
    [switch] $KeepCertificate,
    [switch] $KeepPackages
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

# What netcfg -q looks at; its answer is in the system's language. A binding is no sign: without an adapter there is none.
function Get-Component {
    Get-ChildItem 'HKLM:\SYSTEM\CurrentControlSet\Control\Network\{4D36E974-E325-11CE-BFC1-08002BE10318}' |
        Where-Object { $_.GetValue('ComponentId') -eq 'Sluice_sluice' }
}

function Get-Imported([string] $Thumbprint) {
    'Root', 'TrustedPublisher' | ForEach-Object { "Cert:\LocalMachine\$_\$Thumbprint" } |
        Where-Object { Test-Path -LiteralPath $_ }
}

$holders = @(Get-Process -Name sluice -ErrorAction SilentlyContinue)
if ($holders) {
    $names = ($holders | ForEach-Object { "$($_.ProcessName).exe, process $($_.Id)" }) -join '; '
    if (-not $Force) {
        throw "These may have \\.\Sluice open, and keep the driver loaded: $names. End them, or use -Force."
    }
    foreach ($holder in $holders) {
        if ($PSCmdlet.ShouldProcess("process $($holder.Id)", 'End sluice.exe')) {
            Stop-Process -Id $holder.Id -Force
            if (-not $holder.WaitForExit(30000)) {
                throw "Process $($holder.Id) does not end: its requests are still pending. Take a dump of the system before anything else."
            }
        }
    }
}

if (Get-Component) {
    if ($PSCmdlet.ShouldProcess('Sluice_sluice', 'Remove the network component')) {
        & netcfg.exe -u Sluice_sluice
        if ($LASTEXITCODE -ne 0) {
            Write-Warning "netcfg ended with $LASTEXITCODE."
        }
    }
}

if (-not $KeepPackages) {
    $packages = Get-WindowsDriver -Online | Where-Object { (Split-Path $_.OriginalFileName -Leaf) -eq 'sluice.inf' }
    foreach ($package in $packages) {
        if ($PSCmdlet.ShouldProcess($package.Driver, 'Delete the staged package')) {
            & pnputil.exe /delete-driver $package.Driver
            if ($LASTEXITCODE -ne 0) {
                Write-Warning "pnputil ended with $LASTEXITCODE for $($package.Driver)."
            }
        }
    }
}

if (Get-Service -Name sluice -ErrorAction SilentlyContinue) {
    if ($PSCmdlet.ShouldProcess('sluice', 'Stop and delete the service')) {
        & sc.exe stop sluice | Out-Null
        & sc.exe delete sluice
        if ($LASTEXITCODE -ne 0) {
            Write-Warning "sc ended with $LASTEXITCODE."
        }
    }
}

$thumbprint = $null
if (-not $KeepCertificate) {
    if (Test-Path -LiteralPath $Certificate -PathType Leaf) {
        # .NET looks for a relative path elsewhere than PowerShell does.
        $Certificate = (Resolve-Path -LiteralPath $Certificate).ProviderPath
        $thumbprint = (New-Object System.Security.Cryptography.X509Certificates.X509Certificate2 $Certificate).Thumbprint
        foreach ($imported in Get-Imported $thumbprint) {
            if ($PSCmdlet.ShouldProcess($imported, 'Remove the certificate')) {
                Remove-Item -LiteralPath $imported
            }
        }
    } else {
        Write-Warning "There is no $Certificate to tell which certificate was imported."
    }
}

if ($WhatIfPreference) {
    return
}

# Nothing is believed that was not looked at. A driver without handles takes a moment to unload.
$deadline = (Get-Date).AddSeconds(20)
while ((Get-Service -Name sluice -ErrorAction SilentlyContinue) -and (Get-Date) -lt $deadline) {
    Start-Sleep -Milliseconds 500
}
$left = @()
if (Get-Component) {
    $left += "the network component (netcfg -q Sluice_sluice: $(@(& netcfg.exe -q Sluice_sluice) -join ' '))"
}
$service = Get-Service -Name sluice -ErrorAction SilentlyContinue
if ($service) {
    $left += "the service, which is $($service.Status)"
    if ($service.Status -eq 'StopPending') {
        $left += 'a handle to \\.\Sluice: end the program that has it (Sysinternals'' handle.exe names it), or restart Windows'
    }
}
if (Test-Path -LiteralPath "$env:windir\System32\drivers\sluice.sys") {
    $left += "$env:windir\System32\drivers\sluice.sys"
}
if (-not $KeepPackages) {
    Get-ChildItem "$env:windir\System32\DriverStore\FileRepository" -Directory -Filter 'sluice.inf_*' |
        ForEach-Object { $left += $_.FullName }
}
if (-not $KeepCertificate) {
    if ($thumbprint) {
        Get-Imported $thumbprint | ForEach-Object { $left += $_ }
    } else {
        $left += 'the certificate, if one was imported'
    }
}
if ($left) {
    throw "Still there: $($left -join '; ')."
}
Write-Output 'Looked for the component, service, driver, staged packages and certificate: what was to go is gone.'
